"""One command a run folder; a second one that wants the same run waits for the first."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from sa3d.engine.distributed import ALONE, Processes
from sa3d.errors import UserError
from sa3d.utils.paths import LOCK

RESULT_NEUTRAL: Final = True
_VOTE_SECONDS = 10.0  # between votes of several processes on whether the main one still waits


@contextlib.contextmanager
def locked(run_dir: Path, group: Processes = ALONE) -> Iterator[None]:
    """Hold the run folder, alone among all commands; the lock goes with the process, however it
    ends. If another command is making this run, say so and wait until it ends: the result may be
    there afterwards.

    Args:
        run_dir: made if it is missing.
        group: the processes of this run; the main one holds the lock, all wait.

    Raises:
        UserError: the folder cannot be made or locked.
    """
    # soft locks, which filelock would use where there is no flock, stay behind after a kill
    lock = FileLock(run_dir / LOCK, fallback_to_soft=False)
    waiting = False
    # a vote now and then: the others must not wait for the main process longer than their
    # communication allows
    while group.any(group.main and not _acquired(lock, _VOTE_SECONDS if waiting else 0.0))[0]:
        if group.main and not waiting:
            print(_busy(run_dir), file=sys.stderr, flush=True)  # noqa: T201
        waiting = True
    try:
        if group.main:
            holder = {"pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
            (run_dir / LOCK).write_text(json.dumps(holder), encoding="utf-8")
        yield
    finally:
        lock.release()


def _acquired(lock: FileLock, timeout: float) -> bool:
    path = Path(lock.lock_file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=timeout)
    except Timeout:
        return False
    except OSError as error:
        raise UserError(
            f"cannot use {path.parent}: {error.strerror}; choose another --out"
        ) from None
    return True


def _busy(run_dir: Path) -> str:
    """Who holds the lock, as far as it has said so by now."""
    try:
        holder = json.loads((run_dir / LOCK).read_text(encoding="utf-8"))
        who = f"another process (pid {holder['pid']}, since {holder['since']})"
    except (OSError, ValueError):
        who = "another process"
    return f"{who} is making this run; waiting for it"
