"""What the machine does to a run: a disk that fills, a clock that jumps."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sa3d.tracking import mlflow_store, mlflow_sync
from tests.faults.conftest import Whole
from tests.faults.project import EPOCH_STEPS, Project, ended

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(1800)]
Record = Callable[..., None]
DISK = "24m"  # two checkpoints of 4 MB and the model
# shifts the wall clock of every Python process by what the file says now
CLOCK = """
import os, time
_real = time.time

def _shifted():
    with open(os.environ["SHIFT"]) as file:
        return _real() + float(file.read())

time.time = _shifted
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with a file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", str(folder)]
    mounted = subprocess.run(words, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"only root may mount a small disk: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_the_disk_fills_while_a_run_trains(
    project: Project, whole: Whole, small_disk: Path, record: Record
) -> None:
    project.env["SA3D_WORK"] = str(small_disk)
    training = project.pretrain()
    project.wait_for_step(EPOCH_STEPS + 20)
    began = time.monotonic()
    room = shutil.disk_usage(small_disk).free - (64 << 10)  # enough for some lines, not for weights
    (small_disk / "other files").write_bytes(bytes(room))
    assert ended(training) == 2, project.said()
    seconds = time.monotonic() - began
    last = project.said().strip().splitlines()[-1]
    assert last.startswith(f"sa3d: cannot write {project.run_dir}")
    assert "No space left on device" in last
    assert "Traceback" not in project.said()
    kept, reached = project.saved_step(), project.step()

    (small_disk / "other files").unlink()
    since = time.time()
    assert ended(project.pretrain()) == 0, project.said()
    assert project.resumed_at(since) == kept
    assert project.outcome() == whole.outcome
    assert not list(project.run_dir.glob(".*.tmp"))
    shutil.rmtree(project.run_dir)
    record(
        "disk full while a run trains",
        found="the run ends with one line that says so",
        seconds=seconds,
        lost=max(0, reached - kept),
        after=f"with space again, `sa3d pretrain` went on after step {kept}",
        equal=True,
    )


def test_the_clock_jumps(project: Project, whole: Whole, record: Record) -> None:
    """A day ahead, then two hours behind where it began."""
    shift = project.root / "shift"
    shift.write_text("0")
    (project.root / "clock").mkdir()
    (project.root / "clock" / "sitecustomize.py").write_text(CLOCK)
    places = [str(project.root / "clock"), project.env["PYTHONPATH"]]
    began = time.monotonic()
    training = project.pretrain(SHIFT=str(shift), PYTHONPATH=os.pathsep.join(places))
    for step, jump in ((60, 86_400), (160, -7_200)):
        project.wait_for_step(step)
        beside = shift.with_name("shift.new")
        beside.write_text(str(jump))
        beside.replace(shift)
    assert ended(training) == 0, project.said()
    elapsed = time.monotonic() - began
    assert project.outcome() == whole.outcome  # and with it the order of all steps
    assert 0 < project.seconds() < elapsed
    rates = project.rates()
    assert all(0 < rate < 1e5 for rate in rates), rates
    run = mlflow_sync.run_of(project.run_dir)
    assert run is not None
    stored = mlflow_store.client(run.uri).get_run(run.run_id)
    assert stored.info.status == "FINISHED"
    record(
        "clock: a day ahead, then back to two hours before the start, while a run trains",
        found="no need to",
        seconds=0.0,
        lost=0,
        after="durations and the order of steps are right",
        equal=True,
    )
