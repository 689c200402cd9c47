"""The one checkpoint of a run, ``last.pt``: whole or not there, and only for its own run."""

from __future__ import annotations

import io
import pickle
import time
from pathlib import Path
from typing import Any

import torch

from sa3d.errors import CheckpointError
from sa3d.utils.files import unread, write_whole

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
        write_whole(
            self.path,
            buffer.getbuffer(),
            "the checkpoint before it is intact; free some space and run the same command "
            "again: it goes on from there",
        )
        self._saved = time.monotonic()

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The saved state with tensors on ``device``; None where there is none.

        Raises:
            CheckpointError: unreadable, or written by another run.
        """
        if not self.path.is_file():
            return None
        try:
            # weights_only: tensors and plain values, never code
            state = torch.load(self.path, map_location=device, weights_only=True)
        except (
            OSError,
            RuntimeError,
            EOFError,
            KeyError,
            ValueError,
            pickle.UnpicklingError,
        ) as error:
            if (why := unread(error)) is not None:
                raise CheckpointError(f"{self.path} {why}") from error
            raise CheckpointError(
                f"{self.path} is not a readable checkpoint; delete it to begin again"
            ) from None
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise CheckpointError(
                f"{self.path} is not a checkpoint of format {FORMAT}; delete it to begin again"
            )
        if state["fingerprint"] != self.fingerprint:
            raise CheckpointError(
                f"{self.path} belongs to run {state['fingerprint']}, this is run "
                f"{self.fingerprint} (other settings, data or code); give another --out or "
                "delete it to begin again"
            )
        return state
