"""The gate: what passes, what does not and why, and what a stop in the middle leaves."""

from __future__ import annotations

import contextlib
import json
import threading
from typing import Any

import pytest
from mlflow import MlflowClient

from sa3d.config.gate import GateRules, TaskRule
from sa3d.errors import UserError
from sa3d.tasks.fewshot.task import FewshotConfig
from sa3d.tracking import gate, keys
from sa3d.tracking.gate import promote, rollback
from tests.tracking.registry_store import NAME, Store, protocol, registry

__all__ = ["registry"]


def rules(min_seeds: int = 1, **tasks: dict[str, float | None]) -> GateRules:
    """``svm={...}``; a dash in a key is written ``_``."""
    named = {key.replace("_", "-"): TaskRule(**rule) for key, rule in tasks.items()}
    return GateRules(min_seeds=min_seeds, tasks=named or {"svm": TaskRule()})


def test_the_first_champion_needs_only_the_minimum(registry: Store) -> None:
    registry.candidate("a" * 64)
    registry.evaluate("a" * 64, 0.71)
    refused = promote(NAME, rules=rules(svm={"minimum": 0.8}))
    assert (refused.passed, refused.moved, refused.champion) == (False, False, None)
    assert refused.reason == "svm-shapes: test/acc 0.7100 is below 0.8"
    assert registry.alias("champion") is None
    told = registry.tags("1")
    assert (told["gate"], told["gate.reason"]) == ("failed", refused.reason)

    passed = promote(NAME, rules=rules(svm={"minimum": 0.7}))
    assert (passed.passed, passed.moved) == (True, True)
    assert registry.alias("champion") == "1"
    assert registry.alias("previous") is None
    told = registry.tags("1")
    assert (told["gate"], told["gate.champion"]) == ("passed", "none")
    assert told["gate.reason"] == "svm-shapes: test/acc 0.7100, not compared with a champion"


def test_a_worse_candidate_does_not_move_the_champion(registry: Store) -> None:
    registry.candidate("a" * 64)
    registry.evaluate("a" * 64, 0.90)
    assert promote(NAME).moved
    registry.candidate("b" * 64, training="t2")
    registry.evaluate("b" * 64, 0.88)
    refused = promote(NAME, rules=rules(svm={"max_drop": 0.01}))
    assert not refused.passed
    assert refused.reason == (
        "svm-shapes: test/acc 0.8800 is 0.0200 worse than the champion's 0.9000 (version 1); at "
        "most 0.01 is allowed"
    )
    assert registry.alias("champion") == "1"
    assert registry.tags("2")["gate"] == "failed"
    passed = promote(NAME, rules=rules(svm={"max_drop": 0.02}))
    assert passed.moved
    assert passed.reason == "svm-shapes: test/acc 0.8800, champion 0.9000"
    assert (registry.alias("champion"), registry.alias("previous")) == ("2", "1")
    assert registry.tags("2")["gate.champion"] == "1"


@pytest.mark.slow
def test_the_champion_promoted_again_changes_nothing(registry: Store) -> None:
    registry.candidate("a" * 64)
    registry.evaluate("a" * 64, 0.9)
    promote(NAME)
    before = registry.tags("1")
    again = promote(NAME)
    assert (again.passed, again.moved, again.champion) == (True, False, "1")
    assert again.reason == "version 1 is the champion"
    assert registry.tags("1") == before
    assert registry.alias("previous") is None


@pytest.mark.slow
def test_all_seeds_of_the_pre_training_count(registry: Store) -> None:
    for seed, (sha, value) in enumerate((("a", 0.90), ("b", 0.80), ("c", 0.70))):
        registry.version(sha * 64, seed=seed)
        registry.evaluate(sha * 64, value, seed=seed)
    registry.version("d" * 64, seed=3, training="other")  # another pre-training, not evaluated
    verdict = promote(NAME, "1", rules(min_seeds=3), dry_run=True)
    assert verdict.passed
    number = verdict.checks[0].candidate
    assert number is not None
    assert number.mean == pytest.approx(0.80)
    assert (number.seeds, number.versions) == ((0, 1, 2), ("1", "2", "3"))
    few = promote(NAME, "1", rules(min_seeds=4), dry_run=True)
    assert few.reason == "svm-shapes: 3 of 4 seeds have finished"
    assert registry.tags("1").keys().isdisjoint({keys.GATE, keys.REASON})


@pytest.mark.slow
def test_of_a_seed_that_was_made_twice_the_newest_counts_unless_it_is_asked_for(
    registry: Store,
) -> None:
    for sha, value in (("a", 0.5), ("b", 0.9)):
        registry.version(sha * 64, seed=0)
        registry.evaluate(sha * 64, value)
    registry.version("c" * 64, seed=1)
    registry.evaluate("c" * 64, 0.7, seed=1)

    def versions(which: str) -> tuple[str, ...]:
        number = promote(NAME, which, dry_run=True).checks[0].candidate
        assert number is not None
        return number.versions

    assert versions("3") == ("2", "3")
    assert versions("1") == ("1", "3")


@pytest.mark.slow
def test_what_has_not_finished_is_waited_for(registry: Store) -> None:
    registry.candidate("a" * 64)
    assert "MLflow has no evaluation of version 1" in promote(NAME).reason
    registry.evaluate("a" * 64, 0.9)
    failed = registry.evaluate("a" * 64, None, seed=1, status="FAILED")
    reason = "svm-shapes has not finished: version 1, seed 1: FAILED"
    assert promote(NAME).reason == reason
    registry.client.delete_run(failed)  # a person's decision
    assert promote(NAME).moved
    assert promote(NAME, rules=rules(classify={})).reason == "version 1 is the champion"


@pytest.mark.slow
def test_a_run_that_was_made_again_replaces_the_failed_one(registry: Store) -> None:
    registry.candidate("a" * 64)
    registry.evaluate("a" * 64, 0.1, status="KILLED")
    registry.evaluate("a" * 64, 0.9)
    verdict = promote(NAME)
    assert verdict.moved
    assert verdict.checks[0].candidate is not None
    assert verdict.checks[0].candidate.mean == 0.9


@pytest.mark.slow
def test_every_fold_must_have_finished(registry: Store) -> None:
    settings = FewshotConfig(way=5, shot=10, folds=2, epochs=1, batch_size=4, lr=0.001).model_dump(
        mode="json"
    )
    how = json.dumps({"data": {"points": 64}, "model": {}, "settings": settings})
    more: dict[str, Any] = {"task": "fewshot", "label": "5w10s", "how": how}
    registry.candidate("a" * 64)
    registry.evaluate("a" * 64, 0.8, fold=0, **more)
    asked = rules(fewshot={})
    reason = "fewshot-5w10s-shapes has not finished: version 1, seed 0: 1 of 2 folds; FINISHED"
    assert promote(NAME, rules=asked).reason == reason
    registry.evaluate("a" * 64, 0.6, fold=1, **more)
    verdict = promote(NAME, rules=asked)
    assert verdict.moved
    assert verdict.reason.startswith("fewshot-5w10s-shapes: test/acc 0.7000")


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"digest": "d2"}, "measured on other data (digest d1 here, d2 there)"),
        (
            {"how": protocol(folds=5)},
            "measured by another protocol (settings.folds=3 here, 5 there)",
        ),
        ({"kernels": "torch"}, "measured with other point kernels (cpp here, torch there)"),
    ],
)
@pytest.mark.slow
def test_what_was_measured_otherwise_is_not_compared(
    registry: Store, other: dict[str, str], told: str
) -> None:
    registry.candidate("a" * 64)
    registry.evaluate("a" * 64, 0.5, **other)  # type: ignore[arg-type]
    assert promote(NAME).moved
    registry.candidate("b" * 64, training="t2")
    registry.evaluate("b" * 64, 0.9)
    refused = promote(NAME)
    assert not refused.passed
    start = "svm-shapes: cannot be compared with the champion, version 1, "
    assert refused.reason == f"{start}{told}; evaluate the champion in the same way"
    assert registry.alias("champion") == "1"
    registry.evaluate("a" * 64, 0.6)  # the champion, now in the same way
    verdict = promote(NAME)
    assert verdict.moved
    assert verdict.checks[0].champion is not None
    assert verdict.checks[0].champion.mean == 0.6


@pytest.mark.slow
def test_an_evaluation_that_only_the_champion_has_is_not_passed_over(registry: Store) -> None:
    registry.candidate("a" * 64)
    registry.evaluate("a" * 64, 0.9)
    registry.evaluate("a" * 64, 0.4, data="shapes-noisy")
    promote(NAME)
    registry.candidate("b" * 64, training="t2")
    registry.evaluate("b" * 64, 0.95)
    refused = promote(NAME)
    assert refused.reason == (
        "svm-shapes-noisy: MLflow has no evaluation of version 2, but of the champion, version 1"
    )
    assert promote(NAME, rules=rules(svm_shapes={})).moved  # only this one was asked for


@pytest.mark.slow
def test_other_code_is_told_and_not_refused(registry: Store) -> None:
    registry.candidate("a" * 64)
    registry.evaluate("a" * 64, 0.9, code="c1")
    promote(NAME)
    registry.candidate("b" * 64, training="t2")
    registry.evaluate("b" * 64, 0.95, code="c2")
    verdict = promote(NAME)
    assert verdict.moved
    assert verdict.notes == ("svm-shapes: the code that measured differs (c2; of the champion c1)",)


@pytest.mark.slow
def test_back_by_one_command_and_not_forward_again_by_itself(registry: Store) -> None:
    for sha, training in (("a", "t1"), ("b", "t2")):
        registry.candidate(sha * 64, training=training)
        registry.evaluate(sha * 64, 0.9)
        assert promote(NAME).moved
    assert rollback(NAME) == ("2", "1")
    assert (registry.alias("champion"), registry.alias("previous")) == ("1", None)
    with pytest.raises(UserError, match="has no champion before version 1"):
        rollback(NAME)
    refused = promote(NAME)
    assert not refused.passed
    assert refused.reason.startswith("version 2 was rolled back on ")
    registry.client.delete_model_version_tag(NAME, "2", keys.ROLLED_BACK)
    assert promote(NAME).moved


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("after", range(6))
@pytest.mark.slow
def test_a_stop_between_any_two_requests_leaves_one_champion_and_is_completed(
    registry: Store, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    registry.candidate("a" * 64)
    registry.evaluate("a" * 64, 0.8)
    promote(NAME)
    registry.candidate("b" * 64, training="t2")
    registry.evaluate("b" * 64, 0.9)
    promote(NAME, rules=rules(svm={"minimum": 0.99}))  # its description is there already
    left = [after]

    def dying(name: str) -> None:
        before = getattr(MlflowClient, name)

        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return before(self, *args, **kwargs)

        patched.setattr(MlflowClient, name, call)

    with monkeypatch.context() as patched:
        for name in (
            "set_registered_model_tag",
            "set_model_version_tag",
            "set_registered_model_alias",
        ):
            dying(name)
        with pytest.raises(Killed):
            promote(NAME)
    assert registry.alias("champion") == "1"
    assert promote(NAME).moved
    assert (registry.alias("champion"), registry.alias("previous")) == ("2", "1")
    assert registry.tags("2")["gate"] == "passed"
    assert rollback(NAME) == ("2", "1")


@pytest.mark.slow
def test_two_at_once_leave_a_champion_that_the_rules_allow(
    registry: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both beat the old champion; the worse of the two must not replace the better one."""
    for sha, value, training in (("a", 0.5, "t1"), ("b", 0.9, "t2"), ("c", 0.8, "t3")):
        registry.version(sha * 64, training=training)
        registry.evaluate(sha * 64, value)
    assert promote(NAME, "1").moved
    judge, together = gate.judge, threading.Barrier(2)

    def judged(*args: Any) -> Any:
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(timeout=3)  # without the lock both would get here before either moves
        return judge(*args)

    monkeypatch.setattr(gate, "judge", judged)
    verdicts: dict[str, gate.Verdict] = {}

    def run(version: str) -> None:
        verdicts[version] = promote(NAME, version)

    threads = [threading.Thread(target=run, args=(version,)) for version in ("2", "3")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert registry.alias("champion") == "2"
    assert verdicts["2"].moved
    first = "3" if verdicts["3"].moved else "2"
    assert verdicts["3"].champion == ("1" if first == "3" else "2")
    left = [k for k in registry.client.get_registered_model(NAME).tags if k.startswith("changing")]
    assert left == []


@pytest.mark.slow
def test_a_dry_run_leaves_no_trace(registry: Store) -> None:
    registry.candidate("a" * 64)
    registry.evaluate("a" * 64, 0.9)
    before = registry.tags("1")
    verdict = promote(NAME, dry_run=True)
    assert (verdict.passed, verdict.moved) == (True, False)
    assert registry.tags("1") == before
    assert registry.alias("champion") is None


@pytest.mark.parametrize(
    ("name", "which", "told"),
    [
        ("sa3d-demo-sa3dg", "candidate", "no registered model 'sa3d-demo-sa3dg' (did you mean"),
        (NAME, "7", f"{NAME} has no version 7; it has 1"),
        (NAME, "champion", f"{NAME} has no alias 'champion'; it has candidate"),
    ],
)
@pytest.mark.slow
def test_a_version_that_is_not_there(registry: Store, name: str, which: str, told: str) -> None:
    registry.candidate("a" * 64)
    with pytest.raises(UserError) as error:
        promote(name, which)
    assert str(error.value).startswith(told)


@pytest.mark.slow
def test_a_version_from_elsewhere_is_refused(registry: Store) -> None:
    registry.candidate("a" * 64)
    registry.client.delete_model_version_tag(NAME, "1", keys.SHA256)
    with pytest.raises(UserError, match="version 1 has no tag `sha256`"):
        promote(NAME)


@pytest.mark.slow
def test_seeds_that_were_measured_otherwise_are_not_left_out(registry: Store) -> None:
    for seed, sha in enumerate("ab"):
        registry.version(sha * 64, seed=seed)
        registry.evaluate(sha * 64, 0.5 + seed / 10, seed=seed)
    registry.evaluate("b" * 64, 0.9, seed=1, how=protocol(folds=5))
    refused = promote(NAME, "2")
    assert refused.reason == (
        "svm-shapes: version 1, another seed, was measured by another protocol "
        "(settings.folds=5 here, 3 there); evaluate it again"
    )
    registry.evaluate("a" * 64, 0.8, how=protocol(folds=5))
    assert promote(NAME, "2").reason.startswith("svm-shapes: test/acc 0.8500")


@pytest.mark.slow
def test_the_other_seeds_do_not_stand_for_the_candidate(registry: Store) -> None:
    for seed, sha in enumerate("ab"):
        registry.version(sha * 64, seed=seed)
    registry.evaluate("a" * 64, 0.9)
    assert promote(NAME, "2").reason == "svm-shapes: only other seeds of version 2 were evaluated"
    assert promote(NAME, "1").moved
