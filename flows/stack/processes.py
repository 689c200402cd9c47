"""Processes that outlive the command that starts them, and ending them with all that they started.

A process belongs to a stack if its environment holds the stack's token. Children inherit it, so
what a killed worker left behind is found too, and a process that got an old number is not taken
for one of the stack.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil

from flows.stack.record import Part
from flows.stack.waiting import looks
from sa3d.errors import UserError
from sa3d.utils import paths
from sa3d.utils.processes import identity

TOKEN: Final = "SA3D_STACK"
SAVE_SECONDS: Final = 45.0  # a training has 25 s to save, and the flow around it to report


def start(
    name: str,
    command: Sequence[str],
    env: Mapping[str, str],
    log: Path,
    address: str = "",
) -> Part:
    """Start a part in the project's root; it does not end with this process or its terminal.

    Args:
        name: of the part.
        command: its words.
        env: its environment, with the stack's token.
        log: file that its output is appended to.
        address: where it will be reached.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        process = subprocess.Popen(
            list(command),
            cwd=paths.root(),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=dict(env),
            start_new_session=True,
        )
    found = identity(process.pid)
    if found is None:
        raise UserError(f"{name} ended at once; its reason is in {log}")
    return Part(name, found, time.time(), address, str(log))


def heed_interrupts() -> None:
    """Have processes that are started from now on heed SIGINT.

    A shell that starts a command in the background has it ignore SIGINT, which its children
    inherit. A Prefect worker that ignores SIGINT does not end by SIGTERM either: it turns that
    into SIGINT.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


def mark(token: str, name: str) -> str:
    """What the environment of a part says."""
    return f"{token}/{name}"


def members(token: str, name: str = "") -> list[psutil.Process]:
    """The living processes of a stack, or of one of its parts; this one excepted."""
    found, wanted = [], mark(token, name)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # it ended meanwhile, or is somebody else's
            alive = process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid()
            said = process.environ().get(TOKEN, "") if alive else ""
            if said == wanted or (not name and said.startswith(wanted)):
                found.append(process)
    return found


def end(parts: Sequence[Part], say: Callable[[str], None]) -> None:
    """Ask parts to end, wait for them and for what they started, and kill what does not end.

    Args:
        parts: that are to end; all others of the stack stay.
        say: told what is waited for.
    """
    family = _with_descendants(parts)
    for part in parts:
        if part.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(part.pid, signal.SIGTERM)
    killed = False
    for waited in looks(lambda: f"the end of {_listed(family)}", say):
        family[:] = filter(_lives, family)
        if not family:
            return
        if waited > SAVE_SECONDS and not killed:
            say(f"killed, as it had not ended after {waited:.0f} s: {_listed(family)}")
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            killed = True


def end_rest(token: str, say: Callable[[str], None], name: str = "") -> None:
    """End what a part that was killed, or any part, has left of itself."""
    rest = members(token, name)
    if not rest:
        return
    say(f"ending what a part left behind: {_listed(rest)}")
    for process in rest:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(rest, timeout=SAVE_SECONDS)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _with_descendants(parts: Sequence[Part]) -> list[psutil.Process]:
    """Parts that live and what they have started; psutil compares start times, too."""
    found = {}
    for part in parts:
        if not part.alive:
            continue
        with contextlib.suppress(psutil.NoSuchProcess):
            leader = psutil.Process(part.pid)
            for process in (leader, *leader.children(recursive=True)):
                found[process.pid] = process
    return list(found.values())


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _listed(family: Sequence[psutil.Process]) -> str:
    names = []
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            names.append(f"{process.name()} (pid {process.pid})")
    return ", ".join(names)
