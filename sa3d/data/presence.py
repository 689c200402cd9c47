"""What is there of a data set's raw files, asked of its source or told from the files' sizes."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
from pathlib import Path
from typing import Any, NamedTuple

from sa3d import registry
from sa3d.config.base import Frozen
from sa3d.data.raw import About, RawCheck, raw_root
from sa3d.errors import DataError

README = "README.md"
"""What is committed in the folder of every raw data set."""


class Inventory(NamedTuple):
    """How many files lie somewhere, and their size together."""

    files: int
    bytes: int


def kind_of(source: Frozen) -> str:
    """Name of the source, as the registry has it.

    Raises:
        ConfigError: a source that is not registered.
    """
    return registry.require(registry.SOURCES, "data source", str(getattr(source, "source", "")))


def about(source: Frozen) -> About:
    """What the source says of itself for people; of one that says nothing, its name."""
    said = getattr(source, "about", None)
    return said if isinstance(said, About) else About(kind_of(source), "", "not stated")


def raw_folder(source: Frozen) -> Path | None:
    """The source's folder of raw files, which may be a single file; None: it is generated."""
    root = getattr(source, "root", None)
    return None if root is None else raw_root(str(root))


def raw_check(source: Frozen, *, read: bool = True) -> RawCheck:
    """The source module's own word on its raw files: ``check_raw(source) -> RawCheck``.

    Without ``read`` a module whose ``check_raw`` takes that keyword only looks which files are
    there, in a second however large they are. A source without the function has no raw files. What
    it raises is a problem of theirs.
    """
    where = registry.SOURCES[kind_of(source)].where.partition(":")[0]
    look: Any = getattr(importlib.import_module(where), "check_raw", None)
    if look is None:
        return RawCheck(raw_folder(source))
    options = {} if read or "read" not in inspect.signature(look).parameters else {"read": False}
    try:
        found: RawCheck = look(source, **options)
    except DataError as error:
        return RawCheck(raw_folder(source), problems=(str(error),))
    return found


def inventory(place: Path | None) -> Inventory:
    """The files at ``place``, but for hidden ones and the ``README.md`` of the folder itself.

    A link to a folder counts as one file: it may lead anywhere, also to a folder above itself.
    """
    if place is None:
        return Inventory(0, 0)
    if place.is_file():
        return Inventory(1, place.stat().st_size)
    files = size = 0
    for folder, folders, names in os.walk(place):
        here = Path(folder)
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += sum((here / name).is_symlink() for name in folders)
        for name in names:
            if name.startswith(".") or (name == README and here == place):
                continue
            files += 1
            # a link that leads nowhere or in a circle, or a file just gone: the source tells it
            with contextlib.suppress(OSError):
                size += (here / name).stat().st_size
    return Inventory(files, size)


def is_absent(found: RawCheck) -> bool:
    """Whether nothing of the raw files is there; a part of them, or half a file, is not absent."""
    own = inventory(found.place).files if found.found is None else found.found
    return bool(found.missing) and not found.problems and own == 0
