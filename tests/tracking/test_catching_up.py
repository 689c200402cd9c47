"""``sa3d sync``: what was recorded offline, damaged, deleted or restored reaches MLflow once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sa3d.errors import UserError
from sa3d.tracking import catching_up, cursor, mlflow_store, mlflow_sync
from sa3d.tracking.catching_up import catch_up
from sa3d.tracking.journal import FILE
from sa3d.tracking.tracker import open_tracker
from tests.unprivileged import another_user


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, bool]]:
    """Stands in for the registry: what it was asked to register, in order."""
    asked: list[tuple[str, str, bool]] = []

    def register(
        run_dir: Path, experiment: str, variant: str, *, candidate: bool = True
    ) -> dict[str, str]:
        assert mlflow_sync.run_of(run_dir) is not None, "a version names the run that made it"
        asked.append((run_dir.name, variant, candidate))
        return {"name": f"sa3d-{experiment}-{variant}", "version": str(len(asked))}

    monkeypatch.setattr(catching_up.model_registry, "register", register)
    monkeypatch.setattr(catching_up.describe, "update", lambda opened, name, version: [])
    return asked


def record(run_dir: Path, steps: int = 3, *, summary: bool = False, **tags: str) -> None:
    name = mlflow_store.SUMMARIES if summary else "sa3d/pretrain"
    with open_tracker(run_dir, experiment=name, run_name=run_dir.name, tags=tags) as tracker:
        tracker.resume(-1)
        for step in range(steps):
            tracker.metrics({"train/loss": float(step)}, step)
        tracker.results({"test/acc": 0.5})
        if summary:
            models = [("pretrain-a", "a", True), ("pretrain-b", "b", False)]
            tracker.models(
                {"folder": f"work/{f}", "experiment": "demo", "variant": v, "candidate": c}
                for f, v, c in models
            )


def offline_experiment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flow that never asked for MLflow."""
    monkeypatch.setenv(mlflow_store.OFFLINE, "1")
    folder = root / "work" / "experiment-demo-12" / "summary-34"
    record(folder, summary=True, experiment="demo", pipeline_id="demo-12")
    record(root / "work" / "pretrain-a", experiment="demo", pipeline_id="demo-12")
    # made for another experiment, asked for by this one
    record(root / "work" / "pretrain-b", experiment="other", pipeline_id="demo-12")
    record(root / "work" / "pretrain-c", experiment="other", pipeline_id="other-56")
    monkeypatch.delenv(mlflow_store.OFFLINE)


def runs(experiment: str = "sa3d/pretrain") -> dict[str, Any]:
    opened = mlflow_store.client()
    found = opened.get_experiment_by_name(experiment)
    listed = opened.search_runs([found.experiment_id]) if found is not None else []
    assert len({each.info.run_name for each in listed}) == len(listed), "a run is there twice"
    return {each.info.run_name: each for each in listed}


def points(run: Any) -> list[tuple[int, float]]:
    found = mlflow_store.client().get_metric_history(run.info.run_id, "train/loss")
    return sorted((point.step, point.value) for point in found)


def test_an_offline_experiment_is_sent_whole_and_once(
    root: Path, monkeypatch: pytest.MonkeyPatch, registered: list[tuple[str, str, bool]]
) -> None:
    offline_experiment(root, monkeypatch)
    assert not (root / "work" / "pretrain-a" / cursor.FILE).exists()
    sent = catch_up(experiment="demo")
    assert sent.models == ["sa3d-demo-a/1", "sa3d-demo-b/2"]
    assert (sent.runs, sent.points, sent.problems) == (3, 12, [])
    assert registered == [("pretrain-a", "a", True), ("pretrain-b", "b", False)]
    assert sorted(runs()) == ["pretrain-a", "pretrain-b"]
    assert [run.info.status for run in runs().values()] == ["FINISHED"] * 2
    assert list(runs(mlflow_store.SUMMARIES)) == ["summary-34"]
    assert catch_up(experiment="demo") == catching_up.Sent(), "nothing twice"
    assert catch_up().points == 4, "the other experiment's run"
    assert points(runs()["pretrain-c"]) == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert len(registered) == 2


def test_offline_asks_for_no_server(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    offline_experiment(root, monkeypatch)
    with pytest.raises(UserError, match="does not answer"):
        catch_up()
    monkeypatch.setenv(mlflow_store.OFFLINE, "perhaps")
    with pytest.raises(UserError, match="SA3D_OFFLINE=perhaps: 1 records without MLflow"):
        mlflow_store.offline()


def test_a_model_that_is_gone_or_a_damaged_journal_stops_nothing_else(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline_experiment(root, monkeypatch)
    spoilt = root / "work" / "pretrain-b" / FILE
    spoilt.write_text("spoilt\n" + spoilt.read_text())
    sent = catch_up()
    assert [line.split(":")[0] for line in sent.problems if "line 1" in line] == [str(spoilt)]
    assert sum("no exported model" in line for line in sent.problems) == 2
    assert sorted(runs()) == ["pretrain-a", "pretrain-c"]
    assert list(runs(mlflow_store.SUMMARIES)) == ["summary-34"]


def test_a_note_that_may_not_be_read_is_not_called_damaged(root: Path) -> None:
    run_dir = root / "work" / "pretrain-a"
    record(run_dir)
    note = run_dir / cursor.FILE
    note.chmod(0)
    with another_user(), pytest.raises(cursor.UnreadableCursorError) as said:
        cursor.read(run_dir)
    assert str(said.value) == (
        f"{note} may not be read by this user; ask its owner for the permission to read"
    )


def test_a_damaged_note_is_mended_from_what_mlflow_has(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_dir = root / "work" / "pretrain-a"
    record(run_dir)
    note = run_dir / cursor.FILE
    whole = json.loads(note.read_text())
    for spoilt in (note.read_text()[:40], "", "[]", "{}"):
        note.write_text(spoilt)
        assert mlflow_sync.run_of(run_dir) is None
        assert f"{note} is damaged: no link to MLflow; mend it with" in capfd.readouterr().err
        assert catch_up(run_dir).points == 0
        assert "looked for in MLflow, and the file made anew" in capfd.readouterr().err
        assert json.loads(note.read_text())["run_id"] == whole["run_id"]
    note.unlink()
    assert catch_up(run_dir).points == 0
    assert points(runs()["pretrain-a"]) == [(0, 0.0), (1, 1.0), (2, 2.0)]


def test_a_deleted_run_is_left_alone_until_it_is_restored(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_dir = root / "work" / "pretrain-a"
    tracker = open_tracker(run_dir, experiment="sa3d/pretrain", run_name="a", tags={})
    tracker.metrics({"train/loss": 0.0}, 0)
    assert tracker._sync is not None
    tracker._sync.update()
    opened, run_id = mlflow_store.client(), str(tracker._sync.run_id)
    opened.delete_run(run_id)  # in MLflow's pages, while it runs
    tracker.metrics({"train/loss": 1.0}, 1)
    tracker.close("FINISHED")
    said = capfd.readouterr().err
    assert f"the MLflow run of {run_dir} was deleted there; restore it" in said
    assert f"mlflow runs restore --run-id {run_id}" in said
    sent = catch_up(run_dir)
    assert (sent.points, sent.problems, len(sent.deleted)) == (0, [], 1)
    opened.restore_run(run_id)
    assert catch_up(run_dir).points == 1
    assert points(runs()["a"]) == [(0, 0.0), (1, 1.0)]
    assert runs()["a"].info.status == "FINISHED"
    opened.delete_run(run_id)
    (run_dir / cursor.FILE).unlink()
    assert catch_up(run_dir).points == 2, "a new one was asked for"
    assert runs()["a"].info.run_id != run_id


def test_a_deleted_experiment_is_one_line_until_it_is_restored(root: Path) -> None:
    run_dir = root / "work" / "pretrain-a"
    record(run_dir)
    opened = mlflow_store.client()
    number = opened.get_experiment_by_name("sa3d/pretrain").experiment_id
    opened.delete_experiment(number)
    for refused in (mlflow_store.init_store, lambda: catch_up(run_dir)):
        with pytest.raises(UserError, match="experiment 'sa3d/pretrain' was deleted") as raised:
            refused()
        assert f"mlflow experiments restore --experiment-id {number}" in str(raised.value)
        assert "does not answer" not in str(raised.value)
    opened.restore_experiment(number)
    assert catch_up(run_dir).points == 0
    assert points(runs()["pretrain-a"]) == [(0, 0.0), (1, 1.0), (2, 2.0)]


def test_a_run_whose_process_was_killed_ends_with_its_sending(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from sa3d.tracking.tracker import open_tracker\n"
        "tracker = open_tracker(\n"
        "    Path(sys.argv[1]), experiment='sa3d/pretrain', run_name='a', tags={})\n"
        "tracker.metrics({'train/loss': 1.0}, 0)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run_dir = root / "work" / "run"
    env = {**os.environ, mlflow_store.OFFLINE: "1"}
    subprocess.run([sys.executable, "-c", code, str(run_dir)], check=False, env=env)
    assert catch_up().points == 1
    assert runs()["a"].info.status == "KILLED"


@pytest.mark.slow
def test_two_that_send_the_same_run_send_it_once(root: Path) -> None:
    offline = {**os.environ, mlflow_store.OFFLINE: "1"}
    code = (
        "import sys; from pathlib import Path; from sa3d.tracking.tracker import open_tracker\n"
        "with open_tracker(\n"
        "    Path(sys.argv[1]), experiment='sa3d/pretrain', run_name='a', tags={}) as tracker:\n"
        "    for step in range(2500): tracker.metrics({'train/loss': float(step)}, step)\n"
    )
    run_dir = root / "work" / "run"
    subprocess.run([sys.executable, "-c", code, str(run_dir)], check=True, env=offline)
    send = (
        "import sys; from pathlib import Path; from sa3d.tracking.catching_up import catch_up\n"
        "print(catch_up(Path(sys.argv[1])).points)\n"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", send, str(run_dir)], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    assert sorted(int(each.communicate()[0]) for each in both) == [0, 2500]
    assert points(runs()["a"]) == [(step, float(step)) for step in range(2500)]
