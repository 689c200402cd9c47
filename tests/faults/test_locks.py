"""Locks go with the process that holds them: those of GPUs, and those of runs."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.executors.base import Event, Job
from flows.executors.claim import Claim
from flows.executors.local import LocalExecutor
from flows.resources import Resources

# holds a file that only one process can make, as long as it "computes" on its GPU
JOB = """
import json, os, signal, sys, time
out, ends = sys.argv[1:3]
gpu = os.environ["CUDA_VISIBLE_DEVICES"]
busy = os.path.join(os.environ["BUSY"], gpu)
os.close(os.open(busy, os.O_CREAT | os.O_EXCL))
time.sleep(0.3)
os.unlink(busy)
print("on GPU", gpu, flush=True)
if ends == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
with open(out + "/result.tmp", "w") as file: json.dump({"fingerprint": "f", "metrics": {}}, file)
os.replace(out + "/result.tmp", out + "/result.json")
"""


def test_six_jobs_of_two_flows_on_two_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: Callable[..., None]
) -> None:
    (tmp_path / "locks").mkdir()
    (tmp_path / "busy").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "locks"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("BUSY", str(tmp_path / "busy"))
    names = [f"run{number}" for number in range(6)]
    events: list[Event] = []
    with contextlib.ExitStack() as stack:
        # two flows: each has its own idea of what is free, the locks decide
        flows = [LocalExecutor(Resources("cuda", width=6)) for _ in range(2)]
        for flow in flows:
            stack.enter_context(contextlib.closing(flow))
        for number, name in enumerate(names):
            ends = "killed" if name == "run1" else "well"
            words = [sys.executable, "-c", JOB, str(tmp_path / name), ends]
            flows[number % 2].submit(Job(name, words, tmp_path / name, "f"))
        began = time.monotonic()
        while sum(event.kind in ("finished", "failed") for event in events) < len(names):
            assert time.monotonic() < began + 120, events
            for flow in flows:
                events += flow.poll(0.05)
    ends = {event.name: event for event in events if event.kind != "started"}
    assert [ends[name].kind for name in names] == ["finished", "failed", *["finished"] * 4]
    assert "killed by SIGKILL" in ends["run1"].text
    started = [event for event in events if event.kind == "started"]
    assert {event.text for event in started} == {"GPU 0", "GPU 1"}
    order = [(event.kind, event.name) for event in events]
    lost = order.index(("failed", "run1"))
    gpu = next(event.text for event in started if event.name == "run1")
    assert any(e.kind == "started" and e.text == gpu for e in events[lost:]), "it was not freed"
    assert not list((tmp_path / "busy").iterdir())
    record(
        "one of six jobs on two GPUs: SIGKILL",
        found="its GPU is free for the next job",
        seconds=0.0,
        lost=None,
        after="the other five finished, never two on one GPU",
        equal=None,
    )


def test_a_lock_file_that_was_left_behind_holds_nobody_up(
    tmp_path: Path, record: Callable[..., None]
) -> None:
    """Locks are the kernel's; a file alone is none, even if it names a living process."""
    for name in (".lock", ".flow.lock"):
        (tmp_path / name).write_text(json.dumps({"pid": os.getpid(), "since": "2020-01-01"}))
    began = time.monotonic()
    claim = Claim(tmp_path)
    assert claim.take()
    claim.release()
    record(
        "lock files that a killed process left in a run folder",
        found="at once",
        seconds=time.monotonic() - began,
        lost=None,
        after="the run can be made",
        equal=None,
    )
