"""Servers that go away: training does not wait for them, and nothing is missing afterwards."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sa3d.tracking import mlflow_store, mlflow_sync
from sa3d.tracking.journal import FILE as JOURNAL
from sa3d.tracking.journal import entries, read_journal
from tests.faults.conftest import Whole
from tests.faults.processes import marked, wait_for
from tests.faults.project import PRETRAIN, Project, ended
from tests.faults.servers import mlflow_server, prefect_server
from tests.live import asked

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(1800)]
Record = Callable[..., None]
AWAY = 60.0  # seconds without MLflow
SOON = 120.0  # seconds in which a flow that was asked to end has to be gone


def rate(run_dir: Path, begin: float, end: float) -> float:
    """Steps per second that the journal shows between two moments."""
    found = [
        (e["at"], e["step"])
        for e in entries(run_dir / JOURNAL)
        if e["kind"] == "metrics" and begin <= e["at"] <= end
    ]
    (first, low), (last, high) = found[0], found[-1]
    return float(high - low) / (last - first)


def assert_mlflow_has_the_journal(run_dir: Path, uri: str) -> None:
    """Every point of every curve, each once."""
    run = mlflow_sync.run_of(run_dir)
    assert run is not None
    client = mlflow_store.client(uri)
    for key, points in read_journal(run_dir).items():
        sent = [(p.step, p.value) for p in client.get_metric_history(run.run_id, key)]
        assert sorted(sent) == points, key


def sync(project: Project, **environment: str) -> int:
    return ended(project.start("sa3d", "sync", str(project.run_dir), **environment))


def test_mlflow_is_away_for_a_minute(project: Project, record: Record) -> None:
    server = mlflow_server(project.root, project.env)
    there = {"MLFLOW_TRACKING_URI": server.url}
    server.start()
    # longer than the test takes: it is stopped
    training = project.pretrain("--set", "pretrain.epochs=2000", **there)
    project.wait_for_step(1)
    folder = project.run_dir
    wait_for(lambda: mlflow_sync.run_of(folder) is not None, 300, "the run in MLflow")
    before = time.time()
    time.sleep(AWAY / 2)
    killed = time.time()
    server.kill()
    seconds = wait_for(lambda: "going on without" in project.said(), AWAY, "a word of it")
    time.sleep(killed + AWAY - time.time())
    back = time.time()
    training.send_signal(signal.SIGTERM)
    assert ended(training) == 143, project.said()
    assert f"sa3d sync {folder}" in project.said()
    with_it, without = rate(folder, before, killed), rate(folder, killed, back)
    assert without > 0.7 * with_it, "training waits for MLflow"

    server.start()
    assert sync(project, **there) == 0, project.said()
    assert_mlflow_has_the_journal(folder, server.url)
    first = mlflow_sync.run_of(folder)

    # started again it goes on in the same MLflow run
    reached = project.step()
    training = project.pretrain("--set", "pretrain.epochs=2000", **there)
    project.wait_for_step(reached + 60)
    training.send_signal(signal.SIGTERM)
    assert ended(training) == 143, project.said()
    assert mlflow_sync.run_of(folder) == first
    assert_mlflow_has_the_journal(folder, server.url)
    record(
        f"MLflow server: SIGKILL, away for {AWAY:.0f} s while a run trains",
        found="a line on stderr",
        seconds=seconds,
        lost=0,
        after=f"`sa3d sync` filled the gap, no step twice; {with_it:.0f} steps/s with MLflow, "
        f"{without:.0f} without",
        equal=None,
    )


def test_mlflow_is_dead_at_the_start_of_a_run(
    served: Project, whole: Whole, record: Record
) -> None:
    project = served
    server = mlflow_server(project.root, project.env)
    there = {"MLFLOW_TRACKING_URI": server.url}
    began = time.monotonic()
    assert ended(project.flow(**there)) == 2, "a flow says so before anything begins"
    seconds = time.monotonic() - began
    assert f"sa3d: MLflow at {server.url} does not answer" in project.said()
    assert not list(project.work.glob(f"{PRETRAIN}-*"))

    assert ended(project.pretrain(**there)) == 0, project.said()
    assert project.outcome() == whole.outcome
    server.start()
    assert sync(project, **there) == 0, project.said()
    assert_mlflow_has_the_journal(project.run_dir, server.url)
    record(
        "MLflow server: dead at the start",
        found="the flow refuses; a single run trains",
        seconds=seconds,
        lost=0,
        after="`sa3d sync` sent the whole run",
        equal=True,
    )


@pytest.mark.parametrize("what", ["run", "experiment"])
def test_it_is_deleted_in_mlflow_and_restored(
    project: Project, whole: Whole, record: Record, what: str
) -> None:
    uri = mlflow_store.sqlite_uri(project.root / "mlflow.db")
    client = mlflow_store.client(uri)
    training = project.pretrain()
    project.wait_for_step(1)
    folder = project.run_dir
    wait_for(lambda: mlflow_sync.run_of(folder) is not None, 300, "the run in MLflow")
    run = mlflow_sync.run_of(folder)
    assert run is not None
    experiment = client.get_run(run.run_id).info.experiment_id
    if what == "run":
        client.delete_run(run.run_id)
    else:
        client.delete_experiment(experiment)
    assert ended(training) == 0, project.said()
    assert project.outcome() == whole.outcome
    assert "deleted" in project.said()
    if what == "run":
        client.restore_run(run.run_id)
    else:
        client.restore_experiment(experiment)
    assert sync(project) == 0, project.said()
    assert mlflow_sync.run_of(folder) == run
    assert_mlflow_has_the_journal(folder, uri)
    record(
        f"MLflow {what}: deleted in its page while a run trains, then restored",
        found="a line on stderr; training goes on",
        seconds=0.0,
        lost=0,
        after="`sa3d sync` filled the gap, no step twice",
        equal=True,
    )


def test_the_prefect_server_goes_and_comes_back(
    project: Project, whole: Whole, record: Record
) -> None:
    server = prefect_server(project.root, project.env)
    server.start()
    flow = project.flow(PREFECT_API_URL=server.url)
    project.wait_for_step(60)
    server.kill()
    project.wait_for_step(180)  # nothing waits for it
    server.start()
    assert ended(flow) == 0, project.said()
    assert project.outcome() == whole.outcome
    runs = asked(server.url, "flow_runs/filter", {})
    assert [run["state_name"] for run in runs] == ["Completed"]
    tasks = {t["name"]: t["state_name"] for t in asked(server.url, "task_runs/filter", {})}
    assert tasks[PRETRAIN] == "Completed"
    server.kill()
    record(
        "Prefect server: SIGKILL, started again while the flow trains",
        found="no need to",
        seconds=0.0,
        lost=0,
        after="the flow went on; flow run and tasks Completed",
        equal=True,
    )


def test_a_flow_whose_prefect_server_has_died_is_asked_to_end(
    project: Project, whole: Whole, record: Record
) -> None:
    server = prefect_server(project.root, project.env)
    server.start()
    flow = project.flow(PREFECT_API_URL=server.url)
    project.wait_for_step(60)
    server.kill()
    began = time.monotonic()
    flow.send_signal(signal.SIGTERM)
    assert ended(flow, SOON) != 0, project.said()
    seconds = time.monotonic() - began
    assert marked(project.mark) == []
    kept = project.saved_step()
    since = time.time()
    assert ended(project.pretrain()) == 0, project.said()
    assert project.resumed_at(since) == kept
    assert project.outcome() == whole.outcome
    record(
        "flow: SIGTERM while its Prefect server is dead",
        found="all processes gone",
        seconds=seconds,
        lost=0,
        after=f"`sa3d pretrain` went on after step {kept}",
        equal=True,
    )
