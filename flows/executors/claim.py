"""A flow's claim on a run: who wants a run that another process makes waits, and reuses it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from filelock import FileLock, Timeout

from sa3d.utils import paths
from sa3d.utils.files import unwritable

_FILE = ".flow.lock"


class Claim:
    """The right of one flow to make the run in a folder; it goes with the process.

    The child locks the folder itself, but only once it has begun to compute. The claim keeps
    other flows from starting one of their own until then.

    Args:
        folder: of the run; made if it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._claim = FileLock(folder / _FILE, thread_local=False, fallback_to_soft=False)
        self._refused_by: FileLock | None = None

    def take(self) -> bool:
        """Take the claim; False while another process makes this run.

        Raises:
            WriteError: the folder cannot be written to.
        """
        # a command that was started without a flow holds this one alone
        run = FileLock(self._folder / paths.LOCK, fallback_to_soft=False)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if not self._acquired(self._claim):
                return False
            if not self._acquired(run):
                self.release()
                return False
            run.release()
            holder = {"pid": os.getpid()}
            (self._folder / _FILE).write_text(json.dumps(holder), encoding="utf-8")
        except OSError as error:
            self.release()
            raise unwritable(self._folder, error) from error
        return True

    def holder(self) -> str:
        """The process for which :meth:`take` was refused, as far as it has said who it is."""
        assert self._refused_by is not None, "nothing was refused"
        try:
            text = Path(self._refused_by.lock_file).read_text(encoding="utf-8")
            return f"another process (pid {json.loads(text)['pid']})"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"

    def release(self) -> None:
        """Let others make the run."""
        self._claim.release()

    def _acquired(self, lock: FileLock) -> bool:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self._refused_by = lock
            return False
        return True
