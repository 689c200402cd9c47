"""Faults under the stack: runs on workers, their processes, and a cancellation.

One stack serves all tests. The flow is started as a form on Prefect's page starts it, by a run of
its deployment, and its runs are made by workers of the pool ``gpu``.
"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil
import pytest

from sa3d.tracking import mlflow_store
from tests.faults.conftest import Whole
from tests.faults.processes import end_all, marked, wait_for
from tests.faults.project import EPOCH_STEPS, Project, copy_of, ended
from tests.live import asked, free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.faults,
    pytest.mark.timeout(1800),
]
Record = Callable[..., None]
HIT = 2 * EPOCH_STEPS + 20
GONE = 20.0  # seconds after which nothing of a cancelled flow may compute
# two runs that last until they are stopped: on one core one computes and one waits for the worker
WIDE = """\
  wide:
    seeds: [3]
    model: {groups: 8, group_size: 8, dim: 24, depth: 2, heads: 2, decoder_depth: 1}
    variants:
      scratch: {scratch: true}
    evaluate:
      - task: classify
        data: {name: shapes, points: 64}
        seeds: [0, 1]
        settings: {epochs: 5000, batch_size: 8, lr: 1.0e-3}
"""
TRAINING = ("sa3d", "--threads")
FLOW_RUN = "PREFECT__FLOW_RUN_ID"  # in the environment of a flow run's process


@dataclass
class Stack:
    """A project whose stack is up, and its Prefect API."""

    project: Project
    api: str

    def submit(self, experiment: str) -> str:
        """Start the flow as its form does; the id of the flow run."""
        deployment = asked(self.api, "deployments/name/experiment/experiment")["id"]
        request = {"experiment": experiment, "where": "workers", "device": "cpu"}
        made = asked(
            self.api,
            f"deployments/{deployment}/create_flow_run",
            {"parameters": {"request": request}, "state": {"type": "SCHEDULED"}},
        )
        return str(made["id"])

    def state(self, run: str) -> str:
        """How the run stands."""
        return str(asked(self.api, f"flow_runs/{run}")["state_name"])

    def jobs(self, run: str) -> list[str]:
        """How each job of a flow stands."""
        query = {"flow_runs": {"parent_flow_run_id": {"any_": [run]}}}
        return [str(job["state_name"]) for job in asked(self.api, "flow_runs/filter", query)]

    def end_of(self, run: str) -> str:
        """How the run ended."""
        over = ("Completed", "Failed", "Cancelled", "Crashed")
        wait_for(lambda: self.state(run) in over, 900, "the end of the flow")
        return self.state(run)

    def up(self) -> None:
        """Start it, or again what of it has died."""
        ports = [word for name in ("prefect", "mlflow") for word in self._port(name)]
        assert ended(self.project.start("flows.stack", "up", *ports)) == 0, self.project.said()

    def _port(self, name: str) -> list[str]:
        return [f"--{name}-port", self.project.env[f"PORT_OF_{name}"]]


@pytest.fixture(scope="module")
def running(whole: Whole, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    project = copy_of(whole.root, tmp_path_factory.mktemp("stack") / "project")
    with (project.root / "params.yaml").open("a") as file:
        file.write(WIDE)
    project.env |= {f"PORT_OF_{name}": str(free_port()) for name in ("prefect", "mlflow")}
    made = Stack(project, f"http://127.0.0.1:{project.env['PORT_OF_prefect']}/api")
    try:
        made.up()
        yield made
        assert ended(project.start("flows.stack", "down")) == 0, project.said()
        assert marked(project.mark) == [], "the stack left processes behind"
    finally:
        end_all(project.mark)


@pytest.fixture
def stack(running: Stack) -> Stack:
    """The stack, all parts of it up, in a project where nothing was run."""
    shutil.rmtree(running.project.work, ignore_errors=True)
    running.up()
    return running


@dataclass(frozen=True)
class Kill:
    """A signal to a process of a flow whose run is on a worker.

    Attributes:
        who: for the table.
        words: of its command line.
        signum: the signal.
        ends: the flow's state in the end.
    """

    who: str
    words: tuple[str, ...]
    signum: signal.Signals
    ends: str


KILLS = [
    Kill("training process on a worker", TRAINING, signal.SIGKILL, "Failed"),
    Kill("training process on a worker", TRAINING, signal.SIGTERM, "Failed"),
    Kill("worker", ("worker", "cpu"), signal.SIGKILL, "Completed"),
    Kill("worker", ("worker", "cpu"), signal.SIGTERM, "Completed"),
]


@pytest.mark.parametrize("kill", KILLS, ids=[f"{k.who} {k.signum.name}" for k in KILLS])
def test_a_run_on_a_worker(stack: Stack, whole: Whole, record: Record, kill: Kill) -> None:
    project = stack.project
    run = stack.submit("tiny")
    project.wait_for_step(HIT)
    reached = project.step()
    began = time.monotonic()
    one_of(project, kill.words).send_signal(kill.signum)
    if kill.who == "worker":
        wait_for(lambda: not marked(project.mark, *kill.words), 60, "the worker's end")
        stack.up()
    assert stack.end_of(run) == kill.ends, project.said()
    seconds = time.monotonic() - began
    kept = project.saved_step()
    after = "the flow finished by itself"
    if kill.ends != "Completed":
        assert stack.end_of(stack.submit("tiny")) == "Completed"
        after = "the same form went on"
    assert project.outcome() == whole.outcome
    record(
        f"{kill.who}: {kill.signum.name}",
        found=f"flow {kill.ends}",
        seconds=seconds,
        lost=max(0, reached - kept) if kill.ends != "Completed" else 0,
        after=after,
        equal=True,
    )


def test_the_fan_out_is_cancelled_by_the_api(stack: Stack, record: Record) -> None:
    project = stack.project
    run = stack.submit("wide")
    wait_for(lambda: list(project.work.glob("classify-*/last.pt")), 900, "a checkpoint")
    wait_for(lambda: len(stack.jobs(run)) == 2, 60, "both jobs")
    assert len(marked(project.mark, *TRAINING)) == 1
    assert len(flow_processes(project)) == 2  # of the flow and of the job that trains
    began = time.monotonic()
    answer = asked(stack.api, f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    assert answer["status"] == "ACCEPT", answer
    seconds = wait_for(lambda: not marked(project.mark, *TRAINING), GONE, "the children's end")
    assert stack.end_of(run) == "Cancelled"
    over = time.monotonic() - began
    # of the flow and of its jobs nothing is left, only the stack
    wait_for(lambda: not flow_processes(project), GONE, "the end of their flow runs")
    wait_for(lambda: set(stack.jobs(run)) == {"Cancelled"}, GONE, "the end of the job that waited")
    (saved,) = project.work.glob("classify-*/last.pt")
    assert not (saved.parent / "result.json").exists()
    client = mlflow_store.client(mlflow_store.sqlite_uri(project.root / "mlflow.db"))
    experiment = client.get_experiment_by_name("sa3d/classify")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert [each.info.status for each in runs] == ["KILLED"]
    record(
        "cancelled by Prefect's API while one run trains on a worker and one waits for it",
        found=f"no run trains any more; the flow is Cancelled after {over:.0f} s",
        seconds=seconds,
        lost=0,
        after="the run has its checkpoint and is KILLED in MLflow, no job is left",
        equal=None,
    )


def test_the_flow_s_own_process_is_killed(stack: Stack, whole: Whole, record: Record) -> None:
    project = stack.project
    run = stack.submit("tiny")
    project.wait_for_step(HIT)
    (flow,) = [p for p in flow_processes(project) if p.environ()[FLOW_RUN] == run]
    began = time.monotonic()
    flow.kill()
    assert stack.end_of(run) == "Crashed"
    seconds = time.monotonic() - began
    # its run is not left to train for nobody
    wait_for(lambda: not marked(project.mark, *TRAINING), GONE, "the end of its run")
    kept = project.saved_step()
    assert kept >= HIT
    assert stack.end_of(stack.submit("tiny")) == "Completed"
    # it may have saved in the last epoch, and then its means are over other steps
    assert project.outcome()["weights"] == whole.outcome["weights"]
    record(
        "flow on a worker: SIGKILL of its process",
        found="flow Crashed, its run is stopped and saves",
        seconds=seconds,
        lost=0,
        after=f"the same form went on after step {kept}",
        equal=True,
    )


def flow_processes(project: Project) -> list[psutil.Process]:
    """The processes that workers have started for flow runs, without what those have started."""
    every = [p for p in marked(project.mark) if FLOW_RUN in environment(p)]
    numbers = {p.pid for p in every}
    return [p for p in every if p.ppid() not in numbers]


def environment(process: psutil.Process) -> dict[str, str]:
    """Its environment; empty if it has ended."""
    try:
        return process.environ()
    except psutil.Error:
        return {}


def one_of(project: Project, words: tuple[str, ...]) -> psutil.Process:
    (found,) = marked(project.mark, *words)
    return found
