"""Files that are either whole or not there."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from sa3d.errors import CheckpointError


def write_whole(path: Path, data: bytes | memoryview, hint: str = "") -> None:
    """Put ``data`` at ``path`` so that a reader finds the old file or the new one, never half.

    Written beside it, synced, renamed, and the folder synced: holds through a kill, a full
    disk and the machine's own death.

    Args:
        path: its folder is made.
        data: the content.
        hint: what the user may do, appended to the error.

    Raises:
        CheckpointError: full disk, no permission. What was at ``path`` is still there.
    """
    beside = path.with_name(f".{path.name}.tmp")  # one name: the next writer replaces a torn one
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
        raise CheckpointError(
            f"cannot write {path}: {error.strerror}; "
            f"{hint or 'free some space or choose another --out'}"
        ) from None
