"""A run that is over within seconds leaves its journal to the flow, and does not load MLflow."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.sending import Sender
from sa3d.tracking import mlflow_store, mlflow_sync
from sa3d.tracking import tracker as tracker_module
from sa3d.tracking.journal import read_journal
from sa3d.tracking.tracker import LEFT_TO_FLOW, open_tracker
from tests.live import free_port

RUN = """
import sys
from pathlib import Path
from sa3d.tracking.tracker import open_tracker
with open_tracker(Path(sys.argv[1]), experiment="sa3d/svm", run_name="a", tags={}) as tracker:
    tracker.metrics({"train/loss": 0.5}, 3)
    tracker.flush()
print("mlflow" in sys.modules)
"""


@pytest.mark.parametrize("left", [True, False])
def test_only_a_run_that_is_left_to_the_flow_does_without_mlflow(root: Path, left: bool) -> None:
    env = os.environ | ({LEFT_TO_FLOW: "1"} if left else {})
    words = [sys.executable, "-c", RUN, str(root / "run")]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(not left)]
    assert (mlflow_sync.run_of(root / "run") is None) is left
    sender = Sender()
    sender.send(root / "run")
    sender.close()
    found = mlflow_sync.run_of(root / "run")
    assert found is not None
    run = mlflow_store.client(found.uri).get_run(found.run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "a")
    assert run.data.metrics["train/loss"] == 0.5
    assert len(mlflow_store.client(found.uri).search_runs([run.info.experiment_id])) == 1


def test_one_that_takes_longer_sends_for_itself(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LEFT_TO_FLOW, "1")
    monkeypatch.setattr(tracker_module, "_SHORT", 0.0)
    tracker = open_tracker(root / "run", experiment="sa3d/svm", run_name="a", tags={})
    deadline = time.monotonic() + 60
    while tracker._left and time.monotonic() < deadline:
        time.sleep(0.01)  # until it is past its first look
    tracker.close("FINISHED")
    found = mlflow_sync.run_of(root / "run")
    assert found is not None
    assert mlflow_store.client(found.uri).get_run(found.run_id).info.status == "FINISHED"


def test_a_store_that_is_away_is_said_once_and_keeps_nothing_up(
    root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(LEFT_TO_FLOW, "1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    sender = Sender()
    for name in "abc":
        tracker = open_tracker(root / name, experiment="sa3d/svm", run_name=name, tags={})
        tracker.metrics({"train/loss": 0.5}, 0)
        tracker.close("FINISHED")
        sender.send(root / name)
    sender.send(root / "failed-before-it-began")
    sender.close()
    said = capfd.readouterr().err
    assert said.count("MLflow lacks 3 runs of this flow") == 1
    assert "Send them later: sa3d sync" in said
    assert [len(read_journal(root / name)["train/loss"]) for name in "abc"] == [1, 1, 1]


def test_one_run_that_fails_keeps_no_other_back_and_is_tried_once_more(
    root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(LEFT_TO_FLOW, "1")
    for name in "abc":
        open_tracker(root / name, experiment="sa3d/svm", run_name=name, tags={}).close("FINISHED")
    tried = []
    update = mlflow_sync.MlflowSync.update

    def updated(self: mlflow_sync.MlflowSync) -> None:
        tried.append(self._run_dir.name)
        if tried == ["a", "b"]:
            raise RuntimeError("database is locked")
        update(self)

    monkeypatch.setattr(mlflow_sync.MlflowSync, "update", updated)
    sender = Sender()
    for name in "abc":
        sender.send(root / name)
    sender.close()
    assert tried == ["a", "b", "c", "b"]
    assert all(mlflow_sync.run_of(root / name) is not None for name in "abc")
    assert "MLflow lacks" not in capfd.readouterr().err
