"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from sa3d.errors import DataError

_STALE_SECONDS = 3600.0


def check_space(path: Path, needed: int) -> None:
    """Refuse to begin writing ``needed`` bytes at ``path`` where they cannot fit.

    Raises:
        DataError: with what is needed and what is free.
    """
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise DataError(
            f"{path} needs {needed >> 20} MiB but {path.parent} has {free >> 20} MiB free; "
            "free some space and run the command again"
        )


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` that replaces it, synced, if the block succeeds.

    Otherwise ``path`` is as it was before.

    Raises:
        DataError: the disk is full or refuses; the system's own words are in it.
    """
    for stale in path.parent.glob(f".{path.name}.*.tmp"):
        # left by a killed process; a live one has touched its file within the hour
        if time.time() - stale.stat().st_mtime > _STALE_SECONDS:
            stale.unlink(missing_ok=True)
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise DataError(
            f"cannot write {path}: {error.strerror or error}; nothing was left there"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Have the file or folder reach the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
