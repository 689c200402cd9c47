"""What a flow leaves: every node with its run, every data set, and the number that is compared."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from flows.outcome import failures, node_entry, primary_metric, write_results
from flows.plan import plan
from flows.settings import settle
from flows.status_table import NodeStatus
from sa3d.config.loading import load_experiment
from sa3d.runs.spec import RunSpec
from sa3d.tasks.base import Metric
from sa3d.tasks.svm import task as svm
from sa3d.tracking import cursor
from tests.flows.test_plan import PARAMS, prepared


@pytest.fixture
def statuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, NodeStatus]:
    """Every node of the demo, waiting."""
    config = load_experiment("demo", PARAMS)
    prepared(tmp_path, config, monkeypatch)
    return {node.name: NodeStatus(node) for node in plan(config).nodes}


def test_results_name_every_node_and_every_data_set(
    tmp_path: Path, statuses: dict[str, NodeStatus], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.settings.check_data", lambda runs: None)  # there are no clouds
    config = load_experiment("demo", PARAMS)
    settings = settle(config)
    done = statuses["svm-shapes-sa3df-s0"]
    done.state, done.fingerprint = "reused", "f1"
    done.run_dir = tmp_path / "work" / "svm-shapes-sa3df-s0-f1"
    done.result = {"metrics": {"test/acc": 0.5}, "seconds": 1.234}
    lost = statuses["register-sa3df-s0"]
    lost.state, lost.error = "skipped", "needs pretrain-shapes-sa3df-s0"
    written = write_results(
        tmp_path / "out", "demo", settings, list(statuses.values()), {"wall_seconds": 1.0}
    )
    found = json.loads(written.read_text())
    assert found["format"] == 2
    assert found["experiment"] == config.model_dump(mode="json")
    assert list(found["nodes"]) == list(statuses)
    entry = found["nodes"]["svm-shapes-sa3df-s0"]
    assert RunSpec.from_json(entry.pop("spec")) == done.node.run.spec
    assert entry == {
        "kind": "evaluate",
        "status": "reused",
        "run_dir": "work/svm-shapes-sa3df-s0-f1",
        "metrics": {"test/acc": 0.5},
        "seconds": 1.23,
        "fingerprint": "f1",
        "mlflow_run_id": None,
        "mlflow_url": None,
    }
    register = found["nodes"]["register-sa3df-s0"]
    assert register["kind"] == "register"
    assert register["error"] == "needs pretrain-shapes-sa3df-s0"
    assert register["spec"]["task"] == "pretrain"
    assert register["run_dir"] is register["fingerprint"] is None
    assert found["data"] == {
        "shapes": {"digest": "digest of shapes"},
        "shapes-noisy": {"digest": "digest of shapes-noisy"},
    }
    assert found["lineage"]["data"] == {
        "shapes": {"digest": "digest of shapes", "md5": None},
        "shapes-noisy": {"digest": "digest of shapes-noisy", "md5": None},
    }
    assert json.loads((tmp_path / "out" / "lineage.json").read_text()) == found["lineage"]


def test_a_run_that_was_sent_later_is_named_with_its_page(
    tmp_path: Path, statuses: dict[str, NodeStatus]
) -> None:
    done = statuses["svm-shapes-sa3df-s0"]
    done.run_dir = tmp_path / "run"
    done.run_dir.mkdir()
    offline = node_entry(done)
    assert (offline["mlflow_run_id"], offline["mlflow_url"]) == (None, None)
    sent = {"experiment_id": "2", "run_id": "abc"}  # as `sa3d sync` notes it
    cursor.write(done.run_dir, cursor.fresh("http://127.0.0.1:5000") | sent)
    later = node_entry(done)
    assert later["mlflow_run_id"] == "abc"
    assert later["mlflow_url"].startswith("http://127.0.0.1:5000/#/experiments/2/runs/abc")


def test_the_task_says_which_number_is_compared(
    statuses: dict[str, NodeStatus], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = dataclasses.replace(svm.TASK, metric=Metric("test/miou", "mIoU"))
    monkeypatch.setattr(svm, "TASK", other)
    for name in ("svm-shapes-sa3df-s0", "classify-shapes-sa3df-s0"):
        statuses[name].result = {"metrics": {"test/acc": 0.5, "test/miou": 0.25}}
    assert primary_metric(statuses["svm-shapes-sa3df-s0"]) == 0.25
    assert primary_metric(statuses["classify-shapes-sa3df-s0"]) == 0.5
    assert primary_metric(statuses["svm-shapes-scratch-s0"]) is None  # not run
    pretraining = statuses["pretrain-shapes-sa3df-s0"]
    pretraining.result = {"metrics": {"test/acc": 0.5}}
    assert primary_metric(pretraining) is None
    assert node_entry(pretraining)["metrics"] == {"test/acc": 0.5}


def test_runs_that_failed_for_one_reason_are_one_line(statuses: dict[str, NodeStatus]) -> None:
    few = [name for name in statuses if name.startswith("fewshot")]
    for name in few[1:]:
        statuses[name].state = "failed"
        statuses[name].error = f"too few clouds (exit status 2; log: runs/{name}/log.txt)"
    statuses[few[0]].state, statuses[few[0]].error = "failed", "ended well but (log: x)"
    statuses["svm-shapes-sa3df-s0"].state = "finished"
    waits = {"svm-shapes-sa3df-s0", *few}
    assert failures([statuses[name] for name in statuses if name in waits]) == [
        f"{few[0]} failed: ended well but (log: x)",
        f"{len(few) - 1} runs failed: too few clouds (exit status 2; log: runs/{few[1]}/log.txt): "
        f"{few[1]}, {few[2]}, {few[3]} and {len(few) - 4} more",
    ]
