"""What the gate finds: the numbers of a version against the rules and against the champion's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from sa3d import registry
from sa3d.config.gate import GateRules, TaskRule, task_of
from sa3d.tracking import evidence, keys
from sa3d.tracking.evidence import Conditions, Evaluated
from sa3d.tracking.versions import siblings, weights_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

_ROUNDING = 1e-9  # of a difference of two means


@dataclass(frozen=True)
class Number:
    """One evaluation's number of all seeds of a version.

    Attributes:
        mean: over seeds.
        seeds: of the evaluation that finished.
        versions: whose encoders it was measured on.
    """

    mean: float
    seeds: tuple[int, ...]
    versions: tuple[str, ...]


@dataclass(frozen=True)
class Check:
    """One line of a verdict.

    Attributes:
        evaluation: its name, or the task where there is no evaluation of it.
        metric: name of its number.
        candidate: what the candidate reached; None: nothing that counts.
        champion: what the champion reached; None: not compared.
        failed: why it does not pass; empty: it does.
    """

    evaluation: str
    metric: str
    candidate: Number | None
    champion: Number | None
    failed: str = ""


@dataclass(frozen=True)
class Verdict:
    """What became of a promotion.

    Attributes:
        name: of the registered model.
        version: the candidate.
        passed: whether the gate let it pass.
        moved: whether it became the champion by this call.
        reason: one line for people.
        champion: the version that was the champion before; None: there was none.
        checks: one line for each evaluation.
        notes: what somebody who trusts the verdict should know.
    """

    name: str
    version: str
    passed: bool
    moved: bool
    reason: str
    champion: str | None
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def judge(opened: MlflowClient, candidate: Any, champion: Any | None, rules: GateRules) -> Verdict:
    """Whether a version may take the champion's place; nothing in the store changes.

    Raises:
        UserError: a version that was not registered from a pre-training of this project.
    """
    name, version = str(candidate.name), str(candidate.version)
    before = None if champion is None else str(champion.version)
    if before == version:
        return Verdict(name, version, True, False, f"version {version} is the champion", before)
    taken_back = candidate.tags.get(keys.ROLLED_BACK)
    if taken_back is not None:
        reason = (
            f"version {version} was rolled back on {taken_back}; to let it run again, delete its "
            f"tag `{keys.ROLLED_BACK}` in MLflow"
        )
        return Verdict(name, version, False, False, reason, before)
    ours = _Shown(opened, candidate)
    theirs = None if champion is None else _Shown(opened, champion)
    checks = tuple(
        check
        for key, rule in rules.tasks.items()
        for check in _checks(key, rule, rules, ours, theirs)
    )
    failed = [check.failed for check in checks if check.failed]
    return Verdict(
        name=name,
        version=version,
        passed=not failed,
        moved=False,
        reason="; ".join(failed) or "; ".join(map(_told, checks)),
        champion=before,
        checks=checks,
        notes=_notes(ours, theirs, checks),
    )


class _Shown:
    """What was measured of a version and of the other seeds of its pre-training."""

    def __init__(self, opened: MlflowClient, version: Any) -> None:
        self.version = str(version.version)
        self.by_version = {
            str(each.version): evidence.evaluations(opened, weights_of(each))
            for each in siblings(opened, version)
        }

    @property
    def names(self) -> set[str]:
        """Evaluations that were begun."""
        return {name for found in self.by_version.values() for name in found}

    def newest(self, name: str) -> Conditions:
        """The conditions under which an evaluation was run last."""
        found = [each for by_name in self.by_version.values() for each in by_name.get(name, [])]
        return max(found, key=lambda each: each.newest).conditions

    def under(self, name: str, conditions: Conditions) -> dict[str, Evaluated]:
        """An evaluation under such conditions, by version."""
        return {
            version: each
            for version, by_name in self.by_version.items()
            for each in by_name.get(name, [])
            if each.conditions == conditions
        }

    def otherwise(self, name: str, conditions: Conditions) -> str:
        """Which of the versions was measured only under other conditions; empty: none."""
        for version, by_name in self.by_version.items():
            found = [each.conditions for each in by_name.get(name, [])]
            if found and conditions not in found:
                how = conditions.against(found[0])
                return f"version {version}, another seed, was measured {how}; evaluate it again"
        return ""


def _checks(
    key: str, rule: TaskRule, rules: GateRules, ours: _Shown, theirs: _Shown | None
) -> Sequence[Check]:
    """The checks of one entry of the rules, one for each evaluation that it means."""

    def meant(name: str) -> bool:
        return name == key or (key in registry.TASKS and name.startswith(f"{key}-"))

    # what the champion was measured on, and the candidate was not, must not be passed over
    there = theirs.names if theirs is not None and rule.max_drop is not None else set()
    names = sorted(filter(meant, ours.names | there))
    if not names:
        failed = (
            f"{key}: MLflow has no evaluation of version {ours.version}; run it, or send what ran "
            "without MLflow (sa3d sync)"
        )
        return [Check(key, "", None, None, failed)]
    return [_check(name, rule, rules, ours, theirs) for name in names]


def _check(
    name: str, rule: TaskRule, rules: GateRules, ours: _Shown, theirs: _Shown | None
) -> Check:
    task = registry.task(task_of(name))
    metric = task.metric.name
    if name not in ours.names:
        assert theirs is not None, "a name is ours or theirs"
        failed = (
            f"{name}: MLflow has no evaluation of version {ours.version}, but of the champion, "
            f"version {theirs.version}"
        )
        return Check(name, metric, None, None, failed)
    conditions = ours.newest(name)
    measured = ours.under(name, conditions)
    number = _number(measured)
    unfit = ours.otherwise(name, conditions)
    if ours.version not in measured:
        unfit = unfit or f"only other seeds of version {ours.version} were evaluated"
    missing = [
        f"version {version}, {what}" for version, each in measured.items() for what in each.missing
    ]
    if unfit:
        return Check(name, metric, number, None, f"{name}: {unfit}")
    if missing:
        return Check(name, metric, number, None, f"{name} has not finished: {missing[0]}")
    if number is None or len(number.seeds) < rules.min_seeds:
        count = 0 if number is None else len(number.seeds)
        failed = f"{name}: {count} of {rules.min_seeds} seeds have finished"
        return Check(name, metric, number, None, failed)
    sign = 1.0 if task.metric.higher_is_better else -1.0
    if rule.minimum is not None and sign * (number.mean - rule.minimum) < -_ROUNDING:
        side = "below" if sign > 0 else "above"
        failed = f"{name}: {metric} {number.mean:.4f} is {side} {rule.minimum:g}"
        return Check(name, metric, number, None, failed)
    if theirs is None or rule.max_drop is None:
        return Check(name, metric, number, None)
    champion = _number(theirs.under(name, conditions))
    if champion is None:
        return Check(name, metric, number, None, _incomparable(name, conditions, theirs))
    drop = sign * (champion.mean - number.mean)
    failed = ""
    if drop > rule.max_drop + _ROUNDING:
        failed = (
            f"{name}: {metric} {number.mean:.4f} is {drop:.4f} worse than the champion's "
            f"{champion.mean:.4f} (version {theirs.version}); at most {rule.max_drop:g} is allowed"
        )
    return Check(name, metric, number, champion, failed)


def _number(measured: Mapping[str, Evaluated]) -> Number | None:
    """The mean over every version and seed; None: nothing has finished."""
    done = {version: each for version, each in measured.items() if each.values}
    if not done:
        return None
    values = [value for each in done.values() for value in each.values.values()]
    seeds = sorted({seed for each in done.values() for seed in each.values})
    return Number(fmean(values), tuple(seeds), tuple(done))


def _incomparable(name: str, conditions: Conditions, theirs: _Shown) -> str:
    """Why there is nothing of the champion to compare with."""
    where = f"{name}: cannot be compared with the champion, version {theirs.version}"
    if name not in theirs.names:
        return f"{where}, of which MLflow has no such evaluation; evaluate it as well"
    how = conditions.against(theirs.newest(name))
    if how is None:
        return f"{where}, whose evaluation has not finished"
    return f"{where}, measured {how}; evaluate the champion in the same way"


def _told(check: Check) -> str:
    """A passed check in a few words."""
    assert check.candidate is not None, "it passed"
    text = f"{check.evaluation}: {check.metric} {check.candidate.mean:.4f}"
    if check.champion is not None:
        return f"{text}, champion {check.champion.mean:.4f}"
    return f"{text}, not compared with a champion"


def _notes(ours: _Shown, theirs: _Shown | None, checks: Sequence[Check]) -> tuple[str, ...]:
    """Evaluations whose code differs: conditions say nothing of that."""
    notes = []
    for check in checks:
        if check.champion is None or theirs is None:
            continue
        conditions = ours.newest(check.evaluation)
        code = [
            {
                digest
                for each in shown.under(check.evaluation, conditions).values()
                for digest in each.code
            }
            for shown in (ours, theirs)
        ]
        if code[0] != code[1]:
            told = [", ".join(sorted(each)) or "unknown" for each in code]
            notes.append(
                f"{check.evaluation}: the code that measured differs ({told[0]}; of the champion "
                f"{told[1]})"
            )
    return tuple(notes)
