"""Resources: cores are shared out, a GPU is never shared."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows import resources
from flows.resources import Resources
from sa3d.errors import UserError


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(resources, "_available_memory", lambda: 64 << 30)


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.mark.usefixtures("two_cores")
def test_two_cores_hold_two_tasks_or_one_pre_training() -> None:
    free = Resources("cpu", width=6)
    whole = free.allocate(whole=True)
    assert whole is not None
    assert (whole.threads, whole.env["OMP_NUM_THREADS"]) == (2, "2")
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
    assert free.allocate(whole=False) is not None


def test_many_cores_are_not_cut_finer_than_there_is_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setattr(resources, "_available_memory", lambda: 64 << 30)
    free = Resources("cpu", width=4)
    allocation = free.allocate(whole=False)
    assert allocation is not None
    assert allocation.threads == 4


def test_little_memory_means_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setattr(resources, "_available_memory", lambda: 3 << 30)
    assert Resources("cpu", width=6).count == 1


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
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
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
