"""One real stack: Prefect, MLflow, two workers of fake GPUs and fake trainings."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import pytest

from flows.stack import processes, record
from flows.stack.record import Stack
from sa3d.utils.layout import FORMAT, VERSION
from tests.flows.conftest import PARAMS
from tests.live import asked, free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.stack,
    pytest.mark.timeout(1800),
]
ROOT = Path(__file__).resolve().parents[2]
DEPLOYMENTS = """
name: tiny
deployments:
- {name: tiny, entrypoint: tests.flows.fake_flows.tiny, work_pool: {name: orchestrator}}
- {name: gpu, entrypoint: tests.flows.fake_flows.job, work_pool: {name: gpu}}
"""
FEW = ["evaluate=[{task: svm, settings: {folds: 2}}]"]


class Real:
    """A project whose stack is up, and what its API says."""

    def __init__(self, root: Path, env: dict[str, str]) -> None:
        self.root, self.env = root, env
        self.ports = (free_port(), free_port())

    def stack(self, *words: str) -> tuple[int, str]:
        """Exit status and output of ``python -m flows.stack``."""
        done = subprocess.run(
            [sys.executable, "-m", "flows.stack", *words],
            cwd=self.root,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def up(self) -> tuple[int, str]:
        prefect, mlflow = self.ports
        return self.stack("up", "--prefect-port", str(prefect), "--mlflow-port", str(mlflow))

    def recorded(self) -> Stack:
        """The stack as it is written down."""
        before = os.environ.get("SA3D_ROOT")
        os.environ["SA3D_ROOT"] = str(self.root)
        try:
            found = record.read()
        finally:
            if before is None:
                del os.environ["SA3D_ROOT"]
            else:
                os.environ["SA3D_ROOT"] = before
        assert found is not None
        return found

    def ask(self, path: str, body: Any = None) -> Any:
        """An answer of the API; a POST where there is a body."""
        return asked(f"http://127.0.0.1:{self.ports[0]}/api", path, body)

    def start(self, seed: int) -> str:
        """Start the flow on the workers; its id."""
        found = self.ask("deployments/name/tiny/tiny")
        parameters = {"seed": seed, "overrides": FEW}
        made = self.ask(f"deployments/{found['id']}/create_flow_run", {"parameters": parameters})
        return str(made["id"])

    def run(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask(f"flow_runs/{run}")
        return found

    def ended(self, run: str) -> str:
        """The name of the state in which a run ended."""
        over = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
        wait_until(lambda: self.run(run)["state_type"] in over)
        return str(self.run(run)["state_name"])

    def jobs(self, run: str) -> dict[str, dict[str, Any]]:
        """The jobs of a flow run, by name; of two attempts the second."""
        query = {
            "flow_runs": {"parent_flow_run_id": {"any_": [run]}},
            "sort": "EXPECTED_START_TIME_ASC",
        }
        return {each["name"]: each for each in self.ask("flow_runs/filter", query)}

    def lines(self, run: str) -> list[str]:
        """What the logs of a flow and of its jobs say."""
        ids = [run, *(job["id"] for job in self.jobs(run).values())]
        query = {"logs": {"flow_run_id": {"any_": ids}}, "limit": 200}
        return [each["message"] for each in self.ask("logs/filter", query)]

    def tell(self, file: str, *names: str) -> None:
        (self.root / "fake" / file).write_text(" ".join(names))

    def children(self, seed: int) -> dict[str, tuple[int, str]]:
        """Process id and GPU of every child of a flow that was started, by name."""
        path = self.root / "fake" / "started"
        lines = path.read_text().splitlines() if path.exists() else []
        found = [line.split() for line in lines]
        return {
            words[0]: (int(words[1]), words[3]) for words in found if words[0].endswith(f"-s{seed}")
        }


def wait_until(true: Callable[[], Any], seconds: float = 600.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.5)


def environment(root: Path) -> dict[str, str]:
    """The environment of a project of its own, with this checkout's code."""
    dropped = ("DVC_ROOT", "SA3D_WORK", "MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME")
    env = {k: v for k, v in os.environ.items() if k not in (*dropped, "CUDA_VISIBLE_DEVICES")}
    return env | {
        "SA3D_ROOT": str(root),
        "TMPDIR": str(root / "tmp"),  # locks of cores of its own: tests run side by side
        "PYTHONPATH": str(ROOT),
    }


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    root = tmp_path_factory.mktemp("real")
    for folder in ("fake", "tmp", "bin", "data/processed"):
        (root / folder).mkdir(parents=True)
    (root / "params.yaml").write_text(PARAMS)
    (root / "prefect.yaml").write_text(DEPLOYMENTS)
    with h5py.File(root / "data" / "processed" / "shapes.h5", "w") as file:
        file.attrs["digest"], file.attrs["format"], file.attrs["version"] = "d1", FORMAT, VERSION
    smi = root / "bin" / "nvidia-smi"
    smi.write_text("#!/bin/sh\nprintf '0\\n1\\n'\n")
    smi.chmod(0o755)
    env = environment(root)
    env |= {
        "FAKE": str(root / "fake"),
        "PATH": f"{root / 'bin'}{os.pathsep}{env['PATH']}",
    }
    made = Real(root, env)
    code, said = made.up()
    assert code == 0, said
    try:
        yield made
    finally:
        made.stack("down")


def test_it_comes_up_once_and_says_where_to_go(real: Real) -> None:
    code, said = real.stack("status")
    assert code == 0, said
    rows = [line.split()[:2] for line in said.splitlines()[1:]]
    assert rows == [
        ["prefect", "up"],
        ["mlflow", "up"],
        ["worker", "orchestrator"],
        ["worker", "gpu-0"],
        ["worker", "gpu-1"],
    ]
    before = real.recorded().parts
    code, said = real.up()
    assert code == 0, said
    assert real.recorded().parts == before  # nothing was started again
    assert f"http://127.0.0.1:{real.ports[0]}" in said
    assert "workflowType=machine_learning" in said
    assert {
        each["name"]: each["priority"] for each in real.ask("work_pools/gpu/queues/filter", {})
    } == {"high": 1, "default": 2}
    [rule] = real.ask("automations/filter", {})
    assert rule["enabled"]


EDGES = {
    ("plan", "job / pretrain-shapes-random-masks-s1"),
    ("job / pretrain-shapes-random-masks-s1", "job / pretrain-shapes-sa3df-s1"),
    ("job / pretrain-shapes-random-masks-s1", "register-random-masks-s1"),
    ("job / pretrain-shapes-sa3df-s1", "register-sa3df-s1"),
    ("plan", "job / svm-shapes-scratch-s1"),
    ("job / pretrain-shapes-random-masks-s1", "job / svm-shapes-random-masks-s1"),
    ("job / pretrain-shapes-sa3df-s1", "job / svm-shapes-sa3df-s1"),
    ("register-random-masks-s1", "report"),
    ("register-sa3df-s1", "report"),
    *((f"job / svm-shapes-{name}-s1", "report") for name in ("sa3df", "random-masks", "scratch")),
}


def test_a_flow_fans_out_to_the_workers_and_its_page_shows_the_plan(real: Real) -> None:
    # two that run at once, until both have begun
    both = ("pretrain-shapes-random-masks-s1", "svm-shapes-scratch-s1")
    real.tell("slow", *both)
    run = real.start(1)
    wait_until(lambda: set(both) <= set(real.children(1)))
    found = real.children(1)
    assert {found[name][1] for name in both} == {"0", "1"}  # never two on one GPU
    wait_until(lambda: any("epoch 1/2" in line for line in real.lines(run)))
    real.tell("slow")
    assert real.ended(run) == "Completed", real.run(run)["state"]
    graph = dict(real.ask(f"flow_runs/{run}/graph-v2")["nodes"])
    edges = {
        (graph[parent["id"]]["label"], node["label"])
        for node in graph.values()
        for parent in node["parents"]
    }
    assert edges == EDGES
    jobs = real.jobs(run)
    assert {job["state_name"] for job in jobs.values()} == {"Completed"}
    assert {job["work_queue_name"] for job in jobs.values()} == {"default"}
    assert {job["labels"]["sa3d.worker"] for job in jobs.values()} == {"gpu-0", "gpu-1"}
    lines = real.lines(run)
    assert any(line.startswith("svm-shapes-scratch-s1: running (worker gpu-") for line in lines)
    assert not any("--params" in line for line in lines)  # no command lines


def test_a_job_whose_process_is_killed_is_made_once_more(real: Real) -> None:
    name = "pretrain-shapes-random-masks-s2"
    real.tell("slow", name)
    run = real.start(2)
    wait_until(lambda: name in real.children(2))
    # the process of the flow `job`, not of its child
    pid = int(real.jobs(run)[name]["labels"]["sa3d.process"].partition("@")[0])
    first = real.children(2)[name][0]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: real.children(2)[name][0] != first)
    assert not Path(f"/proc/{first}").exists()  # the child of the killed one was ended
    real.tell("slow")
    assert real.ended(run) == "Completed", real.run(run)["state"]


def test_cancelling_the_flow_ends_its_jobs_and_they_save(real: Real) -> None:
    names = ("pretrain-shapes-random-masks-s3", "svm-shapes-scratch-s3")
    real.tell("hang", *names)
    run = real.start(3)
    wait_until(lambda: set(names) <= set(real.children(3)))
    time.sleep(2.0)  # the children's own handlers
    pids = [pid for pid, _ in real.children(3).values()]
    cancelling = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    real.ask(f"flow_runs/{run}/set_state", cancelling)
    began = time.monotonic()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), seconds=60)
    print(f"children gone after {time.monotonic() - began:.1f} s")
    assert real.ended(run) == "Cancelled"
    wait_until(lambda: {j["state_name"] for j in real.jobs(run).values()} == {"Cancelled"})
    for name in names:
        [saved] = (real.root / "work").glob(f"{name}-*/last.pt")
        assert saved.read_text() == "saved"
    # what was cancelled goes on
    real.tell("hang")
    assert real.ended(real.start(3)) == "Completed"


def test_a_worker_that_died_is_seen_and_replaced_and_no_other(real: Real) -> None:
    before = {part.name: part.process for part in real.recorded().parts}
    lost = real.recorded().part("worker gpu-1")
    assert lost is not None
    os.kill(lost.pid, signal.SIGKILL)
    code, said = real.stack("status")
    assert code == 1
    assert "worker gpu-1           down" in said
    code, said = real.up()
    assert code == 0, said
    after = {part.name: part.process for part in real.recorded().parts}
    assert {name for name in after if after[name] != before[name]} == {"worker gpu-1"}
    assert real.stack("status")[0] == 0


def test_down_lets_trainings_save_and_leaves_nothing(real: Real) -> None:
    name = "pretrain-shapes-random-masks-s4"
    real.tell("hang", name)
    real.start(4)
    wait_until(lambda: name in real.children(4))
    time.sleep(2.0)
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    token = real.recorded().token
    code, said = real.stack("down")
    assert code == 0, said
    assert "the stack is down" in said
    [saved] = (real.root / "work").glob(f"{name}-*/last.pt")
    assert saved.read_text() == "saved"
    assert processes.members(token) == []
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()
    for port in real.ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    code, said = real.stack("status")
    assert code == 1
    assert "there is no stack here" in said
