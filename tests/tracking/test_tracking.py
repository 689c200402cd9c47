"""Tracking: the journal reaches MLflow once, whole, and never at training's cost."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sa3d.errors import UserError
from sa3d.tracking import cursor as cursor_module
from sa3d.tracking import lineage, mlflow_store, mlflow_sync
from sa3d.tracking import tracker as tracker_module
from sa3d.tracking.catching_up import Sent, catch_up
from sa3d.tracking.journal import read_journal
from sa3d.tracking.tracker import open_tracker
from tests.live import free_port
from tests.tracking.serving import server, until


def history(run_dir: Path, key: str) -> list[tuple[int, float]]:
    """What the server has, in the order of steps."""
    found = mlflow_sync.run_of(run_dir)
    assert found is not None
    points = mlflow_store.client(found.uri).get_metric_history(found.run_id, key)
    return sorted((point.step, point.value) for point in points)


def run_in_store(run_dir: Path) -> Any:
    found = mlflow_sync.run_of(run_dir)
    assert found is not None
    return mlflow_store.client(found.uri).get_run(found.run_id)


def test_a_run_reaches_the_local_store_whole(root: Path) -> None:
    run_dir = root / "work" / "pretrain-shapes-sa3df-s0"
    with open_tracker(
        run_dir,
        experiment="sa3d/pretrain",
        run_name="sa3df-shapes-s0",
        tags={"task": "pretrain", "seed": "0"},
    ) as tracker:
        tracker.params({"pretrain.lr": 0.001, "data.name": "shapes"})
        for step in range(2500):  # more than one batch
            tracker.metrics({"train/loss": 1.0 / (step + 1)}, step)
        (run_dir / "figure.txt").write_text("picture")
        tracker.artifact(run_dir / "figure.txt", "figures")
    run = run_in_store(run_dir)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "sa3df-shapes-s0"
    assert run.data.params == {"pretrain.lr": "0.001", "data.name": "shapes"}
    assert run.data.tags["task"] == "pretrain"
    assert run.data.tags["host"] == socket.gethostname()
    assert history(run_dir, "train/loss") == read_journal(run_dir)["train/loss"]
    assert (root / "mlflow.db").is_file()
    stored = list((root / "mlartifacts").rglob("figure.txt"))
    assert [path.parent.name for path in stored] == ["figures"]
    experiment = mlflow_store.client().get_experiment(run.info.experiment_id)
    assert experiment.name == "sa3d/pretrain"


def test_resume_goes_on_in_the_same_run_without_doubling(root: Path) -> None:
    run_dir = root / "work" / "run"

    def stopped() -> None:
        with open_tracker(run_dir, experiment="sa3d/pretrain", run_name="a", tags={}) as first:
            for step in range(10):
                first.metrics({"train/loss": float(step)}, step)
            sys.exit(143)  # SIGTERM's way out

    with pytest.raises(SystemExit):
        stopped()
    killed = run_in_store(run_dir)
    assert killed.info.status == "KILLED"
    # the kill came between the last batch and the note of it
    cursor = run_dir / cursor_module.FILE
    cursor.write_text(cursor.read_text().replace('"train/loss": 9', '"train/loss": 3'))
    with open_tracker(run_dir, experiment="sa3d/pretrain", run_name="a", tags={}) as again:
        again.resume(5)
        for step in range(6, 15):
            again.metrics({"train/loss": float(step)}, step)
    run = run_in_store(run_dir)
    assert run.info.run_id == killed.info.run_id
    assert run.info.status == "FINISHED"
    assert history(run_dir, "train/loss") == [(step, float(step)) for step in range(15)]


def test_a_changed_result_replaces_the_one_that_was_sent(root: Path) -> None:
    run_dir = root / "run"
    for value in (0.25, 0.25, 0.5):  # each time the run ended before its result.json
        with open_tracker(run_dir, experiment="sa3d/pretrain", run_name="a", tags={}) as tracker:
            tracker.results({"test/acc": value}, 7)
    assert history(run_dir, "test/acc") == [(7, 0.25), (7, 0.5)]
    assert run_in_store(run_dir).data.metrics == {"test/acc": 0.5}


@pytest.mark.parametrize("noted", [{}, {"test/acc": 0.25}])
def test_a_result_that_was_sent_but_not_noted_is_not_sent_twice(
    root: Path, noted: dict[str, float]
) -> None:
    run_dir = root / "run"
    for value in [*noted.values(), 0.5]:
        with open_tracker(run_dir, experiment="sa3d/pretrain", run_name="a", tags={}) as tracker:
            tracker.results({"test/acc": value}, 7)
    # the kill came between sending the last value and the note of it
    cursor = run_dir / cursor_module.FILE
    cursor.write_text(json.dumps(json.loads(cursor.read_text()) | {"results": noted}))
    with open_tracker(run_dir, experiment="sa3d/pretrain", run_name="a", tags={}) as tracker:
        tracker.results({"test/acc": 0.5}, 7)  # the run computes it again
    assert history(run_dir, "test/acc") == [(7, value) for value in [*noted.values(), 0.5]]


def test_an_exception_marks_the_run_failed(root: Path) -> None:
    def broken() -> None:
        with open_tracker(
            root / "run", experiment="sa3d/pretrain", run_name="a", tags={}
        ) as tracker:
            tracker.metrics({"train/loss": float("inf")}, 0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert run_in_store(root / "run").info.status == "FAILED"
    [(step, value)] = history(root / "run", "train/loss")
    assert step == 0
    assert value != value  # nan: no made-up number for an infinity


def test_lineage_is_tagged(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    (root / "a").write_text("1")
    (root / "metrics").mkdir()
    (root / "metrics" / "demo.json").write_text("{}")
    (root / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  prepare@shapes:\n    cmd: x\n    outs:\n"
        "    - {path: data/processed/shapes.h5, hash: md5, md5: abc123, size: 3}\n"
    )
    who = ["-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run(["git", "-C", str(root), "add", "."], check=True)
    subprocess.run(["git", *who, "-C", str(root), "commit", "-qm", "x"], check=True)
    monkeypatch.setenv(lineage.PARENT_TAGS, '{"pipeline_id": "p1", "prefect.flow_run_id": "f1"}')
    found = lineage.tags("shapes")
    assert len(found["git.commit"]) == 40
    assert found["git.dirty"] == "false"
    assert found["data.shapes.md5"] == "abc123"
    assert (found["pipeline_id"], found["prefect.flow_run_id"]) == ("p1", "f1")
    (root / "dvc.lock").write_text("schema: '2.0'\n")
    (root / "metrics" / "demo.json").unlink()  # DVC clears the outputs of a stage that begins
    lineage.git.cache_clear()
    assert lineage.tags("shapes")["git.dirty"] == "false"  # the run itself rewrites both
    (root / "a").write_text("2")
    lineage.git.cache_clear()
    assert lineage.tags("shapes")["git.dirty"] == "true"


def test_a_dead_process_leaves_no_running_run(root: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from sa3d.tracking.tracker import open_tracker\n"
        "tracker = open_tracker(\n"
        "    Path(sys.argv[1]), experiment='sa3d/pretrain', run_name='a', tags={})\n"
        "tracker.metrics({'train/loss': 1.0}, 0); tracker._sync.update()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run_dir = root / "run"
    subprocess.run([sys.executable, "-c", code, str(run_dir)], check=False)
    assert run_in_store(run_dir).info.status == "RUNNING"
    with open_tracker(root / "alive", experiment="sa3d/pretrain", run_name="b", tags={}) as alive:
        alive._sync.update()
        mlflow_store.init_store()
        assert run_in_store(root / "alive").info.status == "RUNNING"
    assert run_in_store(run_dir).info.status == "KILLED"


@pytest.mark.slow
def test_many_processes_may_open_a_new_store_at_once(bare_root: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from sa3d.tracking.tracker import open_tracker\n"
        "with open_tracker(\n"
        "    Path(sys.argv[1]), experiment='sa3d/pretrain', run_name='a', tags={}) as t:\n"
        "    t.metrics({'train/loss': 1.0}, 0)\n"
    )
    dirs = [bare_root / f"run{i}" for i in range(6)]
    started = [subprocess.Popen([sys.executable, "-c", code, str(d)]) for d in dirs]
    assert [process.wait(120) for process in started] == [0] * 6
    assert [history(d, "train/loss") for d in dirs] == [[(0, 1.0)]] * 6


def test_a_server_that_is_away_is_said_and_nothing_is_lost(
    root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    run_dir = root / "run"
    with open_tracker(run_dir, experiment="sa3d/pretrain", run_name="a", tags={}) as tracker:
        tracker.metrics({"train/loss": 1.0}, 0)
        tracker.flush()
    assert f"sa3d sync {run_dir}" in capfd.readouterr().err
    assert mlflow_sync.run_of(run_dir) is None
    with pytest.raises(UserError, match="does not answer"):
        catch_up(run_dir)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert catch_up(run_dir) == Sent(runs=1, points=1)
    assert catch_up(run_dir) == Sent()
    assert history(run_dir, "train/loss") == [(0, 1.0)]
    assert run_in_store(run_dir).info.status == "FINISHED"


@pytest.mark.slow
def test_a_server_that_hangs_holds_nothing_up(
    root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracker_module, "_PERIOD", 0.01)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, never answers
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        tracker = open_tracker(root / "run", experiment="sa3d/pretrain", run_name="a", tags={})
        began = time.monotonic()
        for step in range(200):
            tracker.metrics({"train/loss": 1.0}, step)
        tracker.resume(100)
        tracker.flush()
        assert time.monotonic() - began < 5.0, "training waited for an answer"
        tracker.close("FINISHED")
    assert "lacks part of this run" in capfd.readouterr().err
    assert len(read_journal(root / "run")["train/loss"]) == 101


def test_sync_wants_a_run_folder(root: Path) -> None:
    with pytest.raises(UserError, match=r"no run was recorded in .*nothing"):
        catch_up(root / "nothing")
    with pytest.raises(UserError, match=r"no run of experiment 'demo' was recorded in .*work"):
        catch_up(experiment="demo")


@pytest.mark.slow
def test_a_server_killed_in_the_middle_leaves_no_gap_and_no_double(
    root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(tracker_module, "_PERIOD", 0.3)
    run_dir = root / "run"
    with server(root, port) as kill:
        tracker = open_tracker(run_dir, experiment="sa3d/pretrain", run_name="a", tags={})
        for step in range(20):
            tracker.metrics({"train/loss": float(step)}, step)
        until(lambda: mlflow_sync.run_of(run_dir) is not None)
        until(lambda: len(history(run_dir, "train/loss")) == 20)
        kill()
    for step in range(20, 40):
        tracker.metrics({"train/loss": float(step)}, step)
    tracker.flush()
    until(lambda: "takes nothing" in capfd.readouterr().err)
    tracker.close("FINISHED")
    assert "sa3d sync" in capfd.readouterr().err
    with server(root, port):
        assert catch_up(run_dir).points == 20
        assert catch_up(run_dir).points == 0
        assert history(run_dir, "train/loss") == [(step, float(step)) for step in range(40)]
        assert run_in_store(run_dir).info.status == "FINISHED"


def test_kernels_are_told_by_backend_and_only_where_they_differ_by_operator() -> None:
    assert lineage.kernels({"knn": "cpp", "fps": "cpp"}) == "cpp"
    mixed = lineage.kernels({"knn": "cpp", "gather": "torch", "fps": "cpp"})
    assert mixed == "cpp: fps, knn; torch: gather"
