"""The checkpoint of a run, ``last.pt``: whole or not there, and only for its own run.

The one before it is kept as ``last.prev.pt``, in case other hands damage the last.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import sys
import time
from pathlib import Path
from typing import Any

import torch

from sa3d.errors import CheckpointError
from sa3d.utils.files import replacing, unread

FORMAT = 1
SAVE_MINUTES = 5.0


class Checkpoint:
    """Reads and writes ``path`` for the run called ``fingerprint``.

    Args:
        path: ``last.pt`` in the run folder.
        fingerprint: of settings, data and code; stored inside and compared on load.
        minutes: longest time between two saves, beside those at the ends of epochs.
        epochs: save at the end of every epoch. Not worth it where an epoch is a step or two: then
            only every few ``minutes``, and when the run is asked to stop.
    """

    def __init__(
        self,
        path: Path,
        fingerprint: str,
        minutes: float = SAVE_MINUTES,
        *,
        epochs: bool = True,
    ) -> None:
        self.path = path
        self.fingerprint = fingerprint
        self.epochs = epochs
        self._seconds = 60.0 * minutes
        self._saved = time.monotonic()
        self._damaged = False  # what is at `path`

    def due(self) -> bool:
        """Whether the last save is too long ago."""
        return time.monotonic() - self._saved > self._seconds

    def save(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint.

        Raises:
            WriteError: full disk or no permission; the previous one is intact.
        """
        buffer = io.BytesIO()
        torch.save({"format": FORMAT, "fingerprint": self.fingerprint, **state}, buffer)
        remedy = (
            "the checkpoint before it is intact; free some space and run the same command "
            "again: it goes on from there"
        )
        with replacing(self.path, remedy) as temporary:
            temporary.write_bytes(buffer.getbuffer())
            if not self._damaged:
                self._keep()
        self._saved, self._damaged = time.monotonic(), False

    @property
    def previous(self) -> Path:
        """The checkpoint before the last."""
        return self.path.with_name(f"{self.path.stem}.prev{self.path.suffix}")

    def remove(self) -> None:
        """Delete both, once nothing can go on from them."""
        self.path.unlink(missing_ok=True)
        self.previous.unlink(missing_ok=True)

    def _keep(self) -> None:
        """Give what is there a second name, so that it is never without its first."""
        if not self.path.is_file():
            return
        linked = self.previous.with_suffix(".link")
        with contextlib.suppress(OSError):  # a file system without links keeps the last alone
            linked.unlink(missing_ok=True)
            linked.hardlink_to(self.path)
            linked.replace(self.previous)
            linked.unlink(missing_ok=True)  # replacing does nothing where both are one file

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The saved state with tensors on ``device``; None where there is none. Where it cannot be
        read, that of the checkpoint before it, and says so.

        Raises:
            CheckpointError: unreadable, and none before it; or written by another run.
        """
        if not self.path.is_file():
            return None
        path, state = self.path, _read(self.path, device)
        if state is None and self.previous.is_file():
            path, state = self.previous, _read(self.previous, device)
            self._damaged = True
            if state is not None and os.environ.get("RANK", "0") == "0":
                print(  # noqa: T201 - the run's own log
                    f"{self.path} is not a readable checkpoint; going on from the one before it, "
                    f"{path.name}",
                    file=sys.stderr,
                    flush=True,
                )
        if state is None:
            raise CheckpointError(
                f"{self.path} is not a readable checkpoint; delete it to begin again"
            )
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise CheckpointError(
                f"{path} is not a checkpoint of format {FORMAT}; delete it to begin again"
            )
        if state["fingerprint"] != self.fingerprint:
            raise CheckpointError(
                f"{path} belongs to run {state['fingerprint']}, this is run "
                f"{self.fingerprint} (other settings, data or code); give another --out or "
                "delete it to begin again"
            )
        return state


def _read(path: Path, device: torch.device) -> Any:
    """What a checkpoint holds; None: it is damaged.

    Raises:
        CheckpointError: the system did not let it be read.
    """
    try:
        # weights_only: tensors and plain values, never code
        return torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        if (why := unread(error)) is not None:
            raise CheckpointError(f"{path} {why}") from error
        return None
