"""Processes that are killed, asked to end, paused, or lost with the whole machine.

Each test breaks ``dvc repro`` in the middle of an epoch of its pre-training. No process may be
left; the next start goes on from the checkpoint, and its weights are those of a run that nothing
was done to.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import pytest

from sa3d.tracking.journal import FILE as JOURNAL
from tests.faults.conftest import Whole
from tests.faults.processes import marked, wait_until_gone
from tests.faults.project import EPOCH_STEPS, Project, ended

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(1800)]
Record = Callable[..., None]
HIT = 2 * EPOCH_STEPS + 20  # inside the third epoch; the checkpoint before it is its beginning
SOON = 120.0  # seconds; idle it takes two or three, under a load of 20 more than 30
FAILED = 255  # of dvc, whatever its stage ended with


@dataclass(frozen=True)
class Kill:
    """A signal to one of the processes of ``dvc repro``.

    Attributes:
        who: the words of the command line of the process that gets it; ``group``: all that a
            terminal reaches.
        signum: the signal.
        code: with which dvc ends.
        saves: the training is asked to save before it ends.
        again: what is typed next, ``dvc repro`` or the run's own command.
        server: the flow starts a Prefect server of its own, which has to end too.
    """

    who: tuple[str, ...]
    signum: signal.Signals
    code: int
    saves: bool = True
    again: str = "sa3d pretrain"
    server: bool = False

    @property
    def text(self) -> str:
        """For the table."""
        return f"{WHO[self.who]}: {self.signum.name}"


TRAINING, FLOW, DVC = ("sa3d", "pretrain"), ("flows.experiment",), ("dvc", "repro")
GROUP = ("group",)
WHO = {TRAINING: "training process", FLOW: "flow", DVC: "dvc repro", GROUP: "terminal"}
KILLS = [
    Kill(TRAINING, signal.SIGKILL, FAILED, saves=False, again="dvc repro"),
    Kill(TRAINING, signal.SIGTERM, FAILED),
    Kill(FLOW, signal.SIGKILL, FAILED),
    Kill(FLOW, signal.SIGTERM, FAILED),
    Kill(DVC, signal.SIGKILL, -signal.SIGKILL, again="dvc repro", server=True),
    Kill(DVC, signal.SIGTERM, -signal.SIGTERM),
    Kill(GROUP, signal.SIGINT, FAILED),
    Kill(GROUP, signal.SIGHUP, -signal.SIGHUP, server=True),
]


@pytest.mark.parametrize("kill", KILLS, ids=[kill.text.replace(": ", "-") for kill in KILLS])
def test_nothing_stays_behind_and_the_next_start_goes_on(
    project: Project, api: str, whole: Whole, record: Record, kill: Kill
) -> None:
    if not kill.server:
        project.env["PREFECT_API_URL"] = api
    dvc = project.repro()
    project.wait_for_step(HIT)
    reached = project.step()
    began = time.monotonic()
    if kill.who is GROUP:
        os.killpg(dvc.pid, kill.signum)
    else:
        process_of(project, kill.who).send_signal(kill.signum)
    assert ended(dvc) == kill.code, project.said()
    wait_until_gone(project.mark, SOON)
    seconds = time.monotonic() - began

    kept = project.saved_step()
    assert (kept >= reached) == kill.saves
    if not kill.saves:
        assert kept == reached // EPOCH_STEPS * EPOCH_STEPS
    since = time.time()
    assert again(project, kill.again) == 0, project.said()
    assert project.resumed_at(since) == kept
    assert project.outcome() == whole.outcome
    record(
        kill.text,
        found="all processes gone",
        seconds=seconds,
        lost=max(0, reached - kept),
        after=f"`{kill.again}` went on after step {kept}",
        equal=True,
    )


def process_of(project: Project, words: tuple[str, ...]) -> psutil.Process:
    """The process of the project whose command line has these words."""
    (found,) = marked(project.mark, *words)
    return found


def again(project: Project, command: str) -> int:
    """Exit status of the next start."""
    return ended(project.repro() if command == "dvc repro" else project.pretrain())


def test_the_power_fails(served: Project, whole: Whole, record: Record) -> None:
    """Everything stops in the same moment, and half of what was being written is there."""
    project = served
    dvc = project.repro()
    project.wait_for_step(HIT)
    reached = project.step()
    lost_all = marked(project.mark)
    for process in lost_all:
        process.suspend()  # so that none sees another one's death
    for process in lost_all:
        process.kill()
    ended(dvc)
    wait_until_gone(project.mark, SOON)
    folder = project.run_dir
    with (folder / JOURNAL).open("ab") as file:
        file.write(b'{"kind": "metrics", "step": 16')
    (folder / f".last.pt.{dvc.pid}.tmp").write_bytes((folder / "last.pt").read_bytes()[:1000])
    kept = project.saved_step()
    assert kept == reached // EPOCH_STEPS * EPOCH_STEPS
    since = time.time()
    assert ended(project.pretrain()) == 0, project.said()
    assert project.resumed_at(since) == kept
    assert project.outcome() == whole.outcome
    assert not list(folder.glob(".*.tmp"))
    record(
        "power cut: torn line in the journal, half a checkpoint beside the whole one",
        found="next start",
        seconds=0.0,
        lost=reached - kept,
        after=f"`sa3d pretrain` went on after step {kept}",
        equal=True,
    )


def test_a_pause_costs_its_own_time_alone(project: Project, whole: Whole, record: Record) -> None:
    """SIGSTOP and SIGCONT, as a suspended laptop or a debugger does it."""
    pause = 5.0
    training = project.pretrain()
    project.wait_for_step(HIT)
    process = process_of(project, TRAINING)
    process.suspend()
    reached = project.step()
    time.sleep(pause)
    assert project.step() == reached, "it did not stand still"
    process.resume()
    assert ended(training) == 0, project.said()
    assert project.outcome() == whole.outcome
    record(
        f"training process: SIGSTOP for {pause:.0f} s, SIGCONT",
        found="no need to",
        seconds=0.0,
        lost=0,
        after="went on by itself",
        equal=True,
    )


def test_data_that_dvc_prepares_when_it_is_killed(project: Project, record: Record) -> None:
    params = project.root / "params.yaml"
    text = params.read_text()
    params.write_text(text.replace("shapes_per_class: 40", "shapes_per_class: 4000"))
    dvc = project.start("dvc", "repro", "prepare@shapes")
    wait_for_process(project, "sa3d", "prepare")
    time.sleep(0.5)
    began = time.monotonic()
    dvc.kill()
    ended(dvc)
    wait_until_gone(project.mark, SOON)
    seconds = time.monotonic() - began
    params.write_text(text)
    before = (project.root / "dvc.lock").read_text()
    assert ended(project.start("dvc", "repro", "prepare@shapes")) == 0, project.said()
    assert (project.root / "dvc.lock").read_text() == before, "the same data as before"
    record(
        "dvc repro while it prepares data: SIGKILL",
        found="all processes gone",
        seconds=seconds,
        lost=None,
        after="with the settings of before, `dvc repro` has the same data",
        equal=True,
    )


def wait_for_process(project: Project, *words: str) -> psutil.Process:
    end = time.monotonic() + 120
    while not (found := marked(project.mark, *words)):
        assert time.monotonic() < end, project.said()
        time.sleep(0.05)
    return found[0]
