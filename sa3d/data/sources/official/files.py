"""Raw files as they were downloaded: finding them, and reading them whole."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sa3d.data.raw import raw_root
from sa3d.data.spool import Stamp
from sa3d.errors import DataError, UnreadDataError
from sa3d.utils.files import unread


def find_folder(root: str, name: str, *markers: str) -> Path:
    """The folder of a data set: ``root``, or the folder ``name`` in it, as archives unpack.

    Args:
        root: as in the settings.
        name: official name of the folder.
        markers: files or folders, one of which is in it.

    Raises:
        DataError: neither holds any of ``markers``, or both do.
    """
    place = raw_root(root)
    found = [
        folder
        for folder in (place, place / name)
        if any(stamp_of(folder / marker) is not None for marker in markers)
    ]
    if not found:
        raise DataError(
            f"no {markers[0]} in {place} (nor in a folder {name} there); docs/data_sets.md shows "
            "the layout that belongs there"
        )
    if len(found) == 2:
        raise DataError(f"{found[0]} and {found[1]} both hold {markers[0]}; keep one of them")
    return found[0]


def stamp_of(path: Path) -> Stamp | None:
    """Size and time of a file or folder; None where there is none.

    Raises:
        DataError: it cannot be looked at: a loop of symbolic links, no permission.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    return Stamp(found.st_size, found.st_mtime_ns)


def read_whole(path: Path) -> tuple[bytes, Stamp]:
    """The content of a file that did not change meanwhile, and its stamp.

    Raises:
        DataError: missing, unreadable, or still being written.
    """
    with unchanging(path) as stamp:
        data = path.read_bytes()
    if len(data) != stamp.size:
        raise _changing(path)
    return data, stamp


@contextmanager
def unchanging(path: Path) -> Iterator[Stamp]:
    """The stamp of a file that is read in the block.

    Raises:
        DataError: it is not there, the block could not read it, or it is another one after the
            block than before.
    """
    before = stamp_of(path)
    if before is None:
        raise DataError(f"{path} is missing")
    try:
        yield before
    except OSError as error:
        raise _unreadable(path, error) from error
    if stamp_of(path) != before:
        raise _changing(path)


def _changing(path: Path) -> DataError:
    return DataError(
        f"{path} changed while it was read; wait until it is completely there, then run the same "
        "command again"
    )


def _unreadable(path: Path, error: OSError) -> DataError:
    if error.errno == errno.ELOOP:
        return DataError(f"{path}: symbolic links lead in a circle; replace them by the files")
    return UnreadDataError(f"{path} {unread(error)}")
