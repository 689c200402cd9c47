"""The stack's record, ports, parts and processes, with processes that only sleep."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flows.stack import lifecycle, parts, ports, processes, record, use
from flows.stack.record import MLFLOW, PREFECT, Part, Stack
from sa3d.errors import UserError
from sa3d.utils.processes import identity, lives

ROOT = Path(__file__).parents[2]
SLEEPS = "import time; print('ready', flush=True); time.sleep(60)"
# a part whose child does not end with it
LEAVES = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {SLEEPS!r}])
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SA3D_ROOT", str(tmp_path))
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def stack() -> Iterator[Stack]:
    made = Stack("t0ken", {PREFECT: 4200, MLFLOW: 5000}, "process")
    yield made
    for process in processes.members(made.token):
        process.kill()


def begun(stack: Stack, name: str, code: str = SLEEPS) -> Part:
    """A part that runs a few lines of Python, with the environment of a part."""
    log = record.record_file().with_name(f"{name}.log")
    env = parts.environment(stack, name)
    part = processes.start(name, [sys.executable, "-c", code], env, log, "http://127.0.0.1:1")
    wait_until(lambda: "ready" in log.read_text())
    return part


def wait_until(true: object, seconds: float = 20.0) -> None:
    assert callable(true)
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_a_process_is_known_by_its_start_not_its_number_alone() -> None:
    other = subprocess.Popen([sys.executable, "-c", SLEEPS], stdout=subprocess.PIPE)
    found = identity(other.pid)
    assert found is not None
    assert lives(found)
    pid, _, start = found.partition("@")
    assert not lives(f"{pid}@{start}0")  # a process that had the number before
    other.kill()
    wait_until(lambda: not lives(found))  # also while nobody has asked how it ended
    other.communicate()
    assert identity(other.pid) is None
    assert not lives("")


def test_the_record_is_read_as_it_was_written(stack: Stack) -> None:
    assert record.read() is None
    written = record.write(stack, [Part("prefect", "1@x+2", 3.0, "http://127.0.0.1:4200", "log")])
    assert record.read() == written
    record.record_file().write_text("{")
    with pytest.raises(UserError, match=r"cannot read .*stack\.json"):
        record.read()
    record.forget()
    assert record.read() is None


def test_a_taken_port_is_refused_with_its_holder_and_another_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError) as refused:
            ports.require_free("--prefect-port", port)
        text = str(refused.value)
        assert text.startswith(f"port {port} is taken by pid {os.getpid()} (")
        other = int(text.rpartition(" ")[2])
        assert "choose another: --prefect-port " in text
        ports.require_free("--prefect-port", other)
    ports.require_free("--prefect-port", port)


def gpus(folder: Path, monkeypatch: pytest.MonkeyPatch, listed: str) -> None:
    """An nvidia-smi that lists these."""
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\nprintf '{listed}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_every_gpu_has_a_worker_that_takes_one_job_at_a_time(
    tmp_path: Path, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(tmp_path, monkeypatch, "0\\n1\\n")
    first, *found = parts.workers(stack)
    assert (first.name, list(first.command)[-1]) == ("worker orchestrator", "orchestrator")
    assert [plan.name for plan in found] == ["worker gpu-0", "worker gpu-1"]
    for index, plan in enumerate(found):
        assert list(plan.command)[-2:] == ["--limit", "1"]
        assert plan.env == {"CUDA_VISIBLE_DEVICES": str(index), "SA3D_JOBS_SIDE_BY_SIDE": "2"}


def test_without_a_gpu_one_worker_has_the_processor(
    tmp_path: Path, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(tmp_path, monkeypatch, "")
    monkeypatch.setattr("flows.resources._usable_cores", lambda: [0, 1, 2])
    monkeypatch.setattr("flows.resources._available_memory", lambda: 64 << 30)
    _, cpu = parts.workers(stack)
    assert (cpu.name, list(cpu.command)[-2:]) == ("worker cpu", ["--limit", "3"])
    assert cpu.env == {"CUDA_VISIBLE_DEVICES": "", "SA3D_JOBS_SIDE_BY_SIDE": "3"}


def test_a_pool_of_another_type_has_its_workers_elsewhere() -> None:
    stack = Stack("t", {PREFECT: 1, MLFLOW: 2}, "kubernetes")
    assert [plan.name for plan in parts.workers(stack)] == ["worker orchestrator"]


def test_servers_listen_on_this_machine_alone_and_keep_the_projects_files(
    tmp_path: Path, stack: Stack
) -> None:
    prefect, mlflow = parts.servers(stack)
    for plan in (prefect, mlflow):
        words = list(plan.command)
        assert words[words.index("--host") + 1] == "127.0.0.1"
    words = list(mlflow.command)
    assert words[words.index("--backend-store-uri") + 1] == f"sqlite:///{tmp_path}/mlflow.db"
    assert words[words.index("--default-artifact-root") + 1] == f"file://{tmp_path}/mlartifacts"
    assert "*" not in prefect.env["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"]


def test_a_part_is_ended_with_what_it_started_and_nothing_else(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "SAVE_SECONDS", 1.0)  # its child is not asked, and is killed
    other = subprocess.Popen([sys.executable, "-c", SLEEPS], stdout=subprocess.PIPE)
    part = begun(stack, "worker a", LEAVES)
    kept = begun(stack, "worker b")
    assert len(processes.members(stack.token, "worker a")) == 2
    said: list[str] = []
    processes.end([part], said.append)
    assert not part.alive
    [killed] = [line for line in said if "waiting" not in line]  # it is said once
    assert killed.startswith("killed, as it had not ended after ")
    assert processes.members(stack.token, "worker a") == []
    assert kept.alive
    assert other.poll() is None
    other.kill()
    other.communicate()


def test_what_a_killed_part_left_is_found_and_ended(stack: Stack) -> None:
    part = begun(stack, "worker a", LEAVES)
    os.kill(part.pid, signal.SIGKILL)
    wait_until(lambda: not part.alive)
    [left] = processes.members(stack.token)
    record.write(stack, [part])
    said: list[str] = []
    lifecycle.down(said.append)
    assert said[0].startswith("ending what a part left behind")
    wait_until(lambda: not psutil.pid_exists(left.pid) or left.status() == "zombie")
    assert record.read() is None


def test_a_process_that_got_the_number_of_a_part_is_left_alone(stack: Stack) -> None:
    other = subprocess.Popen([sys.executable, "-c", SLEEPS], stdout=subprocess.PIPE)
    found = identity(other.pid)
    assert found is not None
    record.write(stack, [Part("worker a", f"{found}0", 0.0, "", "log")])
    assert lifecycle.down(lambda _: None) is False
    assert other.poll() is None
    other.kill()
    other.communicate()


HEEDS = """
from flows.stack import processes
processes.heed_interrupts()
import subprocess, sys
code = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
"""


def test_parts_heed_interrupts_though_the_shell_had_them_ignored() -> None:
    command = f"trap '' INT; {shlex.join([sys.executable, '-c', HEEDS])}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_flows_use_the_stack_that_is_up_and_say_so(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    use.use_stack(said.append)
    assert said == []  # there is none
    prefect, mlflow = begun(stack, PREFECT), begun(stack, MLFLOW)
    record.write(stack, [prefect, mlflow])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere:5000")
    use.use_stack(said.append)
    assert os.environ["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://elsewhere:5000"  # what is set stays
    assert said == ["using the stack that is up here: prefect http://127.0.0.1:4200"]
    monkeypatch.delenv("PREFECT_API_URL")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    os.kill(prefect.pid, signal.SIGKILL)
    wait_until(lambda: not prefect.alive)
    use.use_stack(said.append)
    assert "PREFECT_API_URL" not in os.environ
    assert said[1].startswith("the stack's prefect server has died and is not used")
    assert said[2] == "using the stack that is up here: mlflow http://127.0.0.1:5000"
    monkeypatch.setenv("PREFECT_API_URL", "")  # both are restored at the end
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")


@pytest.mark.slow
def test_a_run_whose_process_died_is_ended_though_prefect_is_dead(
    stack: Stack, tmp_path: Path
) -> None:
    code = (
        "import os, signal; from pathlib import Path\n"
        "from sa3d.tracking.tracker import open_tracker\n"
        "where = {'experiment': 'sa3d/svm', 'run_name': 'lost', 'tags': {}}\n"
        "tracker = open_tracker(Path('run'), **where)\n"
        "tracker.metrics({'test/acc': 1.0}, 0); tracker._sync.update()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    (tmp_path / "home").mkdir()
    env = os.environ | {"PYTHONPATH": str(ROOT), "PREFECT_HOME": str(tmp_path / "home")}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=False)
    prefect = begun(stack, PREFECT)
    os.kill(prefect.pid, signal.SIGKILL)
    wait_until(lambda: not prefect.alive)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # and does not listen
        ours = Stack(stack.token, stack.ports | {PREFECT: probe.getsockname()[1]}, "process")
        record.write(ours, [prefect])
        command = [sys.executable, "-m", "flows.stack", "status", "--reap"]
        done = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "Prefect's server does not answer (ConnectError): runs whose process is gone are still "
        "shown as running there",
        "lost: its process is gone; MLflow shows it as killed now",
        "`python -m flows.stack up` starts again what is down",
    ]


def test_other_options_for_a_stack_that_is_up_are_refused(stack: Stack) -> None:
    part = begun(stack, PREFECT)
    record.write(stack, [part])
    for wanted, kind in (({PREFECT: 4201, MLFLOW: None}, "process"), ({}, "docker")):
        ports_wanted = {PREFECT: None, MLFLOW: None, **wanted}
        with pytest.raises(UserError, match=r"the stack is up at http://127\.0\.0\.1:4200"):
            lifecycle.up(ports_wanted, kind, servers_only=True, say=lambda _: None)
    assert part.alive
    assert json.loads(record.record_file().read_text())["ports"] == stack.ports


def test_of_two_commands_one_is_refused() -> None:
    with (
        lifecycle.alone(),
        pytest.raises(UserError, match="another process is bringing this stack up or down"),
        lifecycle.alone(),
    ):
        pytest.fail("entered twice")
