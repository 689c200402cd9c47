"""Files that are whole or not there: the one way in which anything here replaces a file."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sa3d.errors import WriteError

_LOCKED: Final = (errno.EAGAIN, errno.EDEADLK, errno.ETXTBSY)
_OF_CONTENT: Final = (errno.EINVAL,)  # a damaged file names a place that it does not have
_FORBIDDEN: Final = (errno.EACCES, errno.EPERM)
_REMEDY = "free some space or choose another place, then run the same command again"


def write_whole(path: Path, data: bytes | memoryview, remedy: str = _REMEDY) -> Path:
    """Put ``data`` at ``path`` so that a reader finds the old file or the new one, never half.

    Args:
        path: its folder is made.
        data: the content.
        remedy: what the user may do when it cannot be written, the end of the message.

    Returns:
        ``path``.

    Raises:
        WriteError: full disk, no permission. What was at ``path`` is still there.
    """
    with replacing(path, remedy) as temporary:
        temporary.write_bytes(data)
    return path


@contextlib.contextmanager
def replacing(path: Path, remedy: str = _REMEDY) -> Iterator[Path]:
    """A temporary name beside ``path``, to be written in the block.

    If the block succeeds, the file is synced and renamed to ``path``, and the folder synced:
    this holds through a kill and the machine's own death. Otherwise ``path`` is as it was and
    the temporary file is gone.

    Raises:
        WriteError: the system refused to write, in its own words.
    """
    # the process in the name: two of them may write the same file, each its own
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise unwritable(path, error, remedy) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def size_text(size: int) -> str:
    """``512 bytes``, ``3.4 kB``, ``47.1 MB`` or ``1.6 GB``."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"


def check_space(path: Path, needed: int) -> None:
    """Refuse to begin writing ``needed`` bytes at ``path`` where they cannot fit.

    Raises:
        WriteError: with what is needed and what is free.
    """
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise WriteError(
            f"{path} needs {needed >> 20} MiB but {path.parent} has {free >> 20} MiB free; "
            "free some space and run the command again"
        )


def unwritable(path: Path, error: OSError, remedy: str = _REMEDY) -> WriteError:
    """The message for a file that the system would not write."""
    return WriteError(f"cannot write {path}: {error.strerror or error}; {remedy}")


def unread(error: BaseException) -> str | None:
    """Why the system did not let a file be read, and what to do; None where it did, so that the
    content must be at fault.

    Libraries raise ``OSError`` for both: one of the system carries its number. What the system
    refused says nothing about the file, so nobody may be told to delete it.
    """
    if not isinstance(error, OSError) or error.errno in (None, *_OF_CONTENT):
        return None
    assert error.errno is not None
    if error.errno in _LOCKED:
        return (
            "is locked: another program has it open for writing; close that, or wait until it has "
            "ended"
        )
    if error.errno in _FORBIDDEN:
        return "may not be read by this user; ask its owner for the permission to read"
    return f"cannot be read: {os.strerror(error.errno)}"


def sync(path: Path) -> None:
    """Have the file or folder reach the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sweep(path: Path) -> None:
    """Remove what processes that were killed while writing ``path`` have left."""
    for stale in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        writer = stale.name.removeprefix(f".{path.name}.").removesuffix(".tmp")
        if writer.isdigit() and not _alive(int(writer)):
            stale.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's
    return True
