"""Resources: cores are shared out, a GPU is never shared."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows import resources
from flows.resources import Resources
from sa3d.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lock files that no other process of this machine knows."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "_usable_cores", lambda: [0, 1])
    monkeypatch.setattr(resources, "_available_memory", lambda: 64 << 30)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")


@pytest.mark.usefixtures("two_cores")
def test_two_cores_hold_two_tasks_or_one_pre_training() -> None:
    free = Resources("cpu", width=6)
    whole = free.allocate(whole=True)
    assert whole is not None
    assert (whole.threads, whole.env["OMP_NUM_THREADS"], whole.device) == (2, "2", "cpu")
    assert whole.env["CUDA_VISIBLE_DEVICES"] == ""
    assert free.allocate(whole=False) is None
    whole.release()
    first, second = free.allocate(whole=False), free.allocate(whole=False)
    assert first is not None
    assert second is not None
    assert (first.threads, second.threads) == (1, 1)
    assert free.allocate(whole=False) is None
    first.release()
    assert free.allocate(whole=True) is None  # half is not enough
    again = free.allocate(whole=False)  # what was kept for the whole is enough for this
    assert again is not None
    second.release()
    again.release()
    assert free.allocate(whole=True) is not None


@pytest.mark.usefixtures("two_cores")
def test_cores_are_shared_by_all_flows_of_the_machine() -> None:
    mine, other = Resources("cpu", width=6), Resources("cpu", width=6)
    task = mine.allocate(whole=False)
    assert task is not None
    assert other.allocate(whole=True) is None  # keeps the other core from now on
    assert mine.allocate(whole=False) is None
    task.release()
    assert mine.allocate(whole=False) is None  # nothing overtakes who has waited
    whole = other.allocate(whole=True)
    assert whole is not None
    assert mine.allocate(whole=True) is None
    whole.release()
    assert mine.allocate(whole=True) is not None


@pytest.mark.usefixtures("two_cores")
def test_who_gives_up_lets_others_have_the_cores() -> None:
    mine, other = Resources("cpu", width=6), Resources("cpu", width=6)
    task = mine.allocate(whole=False)
    assert task is not None
    assert other.allocate(whole=True) is None
    other.abandon()
    assert mine.allocate(whole=False) is not None


def test_many_cores_are_not_cut_finer_than_there_is_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "_usable_cores", lambda: list(range(16)))
    monkeypatch.setattr(resources, "_available_memory", lambda: 64 << 30)
    free = Resources("cpu", width=4)
    tasks = [free.allocate(whole=False) for _ in range(4)]
    assert [task and task.threads for task in tasks] == [4] * 4
    assert free.allocate(whole=False) is None


def test_little_memory_means_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "_usable_cores", lambda: list(range(16)))
    monkeypatch.setattr(resources, "_available_memory", lambda: 3 << 30)
    assert Resources("cpu", width=6).count == 1


SMALL = """
import os, sys, tempfile, time
tempfile.tempdir = sys.argv[1]
from flows import resources
resources._usable_cores = lambda: [0, 1]
mine = resources.Resources("cpu", 2)
print("ready", flush=True)
held, since = [], time.monotonic()
while True:  # at every moment a small task runs, if the next one can begin while it does
    task = mine.allocate(whole=False)
    if task is not None:
        held.append(task)
        since = time.monotonic()
    if len(held) == 2 or held and time.monotonic() > since + 0.5:
        held.pop(0).release()
    time.sleep(0.01)
"""


@pytest.mark.usefixtures("two_cores")
def test_small_tasks_of_another_process_do_not_keep_a_pre_training_waiting(
    tmp_path: Path,
) -> None:
    words = [sys.executable, "-c", SMALL, str(tmp_path)]
    other = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        mine = Resources("cpu", width=2)
        for _ in range(2):
            time.sleep(0.2)  # until the other process is at work
            end = time.monotonic() + 10
            while (whole := mine.allocate(whole=True)) is None:
                assert time.monotonic() < end, "starved"
                time.sleep(0.01)
            whole.release()
        assert other.poll() is None
    finally:
        other.kill()
        other.communicate()


@pytest.mark.usefixtures("two_cores")
def test_a_killed_flow_frees_its_cores_and_the_turnstile(tmp_path: Path) -> None:
    code = (
        "import sys, tempfile, time; tempfile.tempdir = sys.argv[1]\n"
        "from flows import resources; resources._usable_cores = lambda: [0, 1]\n"
        "free = resources.Resources('cpu', 2)\n"
        "print(free.allocate(False), free.allocate(True), flush=True); time.sleep(60)\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    other = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert other.stdout is not None
    assert other.stdout.readline().endswith(") None\n")  # it holds one and collects
    mine = Resources("cpu", width=2)
    assert mine.allocate(whole=False) is None
    other.kill()
    other.communicate()
    assert mine.allocate(whole=True) is not None


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_is_claimed_once_also_by_another_flow() -> None:
    mine, other = Resources("auto", width=6), Resources("cuda", width=6)
    first, second = mine.allocate(whole=True), other.allocate(whole=False)
    assert first is not None
    assert second is not None
    claimed = {first.env["CUDA_VISIBLE_DEVICES"], second.env["CUDA_VISIBLE_DEVICES"]}
    assert claimed == {"0", "1"}
    assert mine.allocate(whole=False) is None
    second.release()
    again = mine.allocate(whole=False)
    assert again is not None
    assert again.env["CUDA_VISIBLE_DEVICES"] == second.env["CUDA_VISIBLE_DEVICES"]


@pytest.mark.usefixtures("two_gpus")
def test_a_killed_flow_frees_its_gpus(tmp_path: Path) -> None:
    code = (
        "import sys, tempfile, time; tempfile.tempdir = sys.argv[1]\n"
        "from flows.resources import Resources\n"
        "free = Resources('cuda', 2); held = [free.allocate(False), free.allocate(False)]\n"
        "print(held, flush=True); time.sleep(60)\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert other.stdout is not None
    assert "GPU 1" in other.stdout.readline()
    mine = Resources("cuda", width=2)
    assert mine.allocate(whole=True) is None
    other.send_signal(signal.SIGKILL)
    other.communicate()
    end = time.monotonic() + 10
    while mine.allocate(whole=True) is None:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_cuda_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    with pytest.raises(UserError, match="--device cuda"):
        Resources("cuda", width=2)
    assert Resources("auto", width=2).gpus == []
