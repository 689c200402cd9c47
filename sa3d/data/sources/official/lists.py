"""Lists of names as data sets come with: one a line, or JSON; line ends of any system."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from sa3d.data.sources.official.files import read_whole
from sa3d.errors import DataError

# what may stand between the slashes of a path: a list must not lead out of its folder
_NAME = re.compile(r"(?!\.+$)[\w.+-]+")


def read_lines(path: Path) -> list[str]:
    """The lines of a text file without surrounding blanks; empty ones are left out.

    Raises:
        DataError: missing, empty or not text.
    """
    lines = [line.strip() for line in _text(path).splitlines()]
    found = [line for line in lines if line]
    if not found:
        raise DataError(f"{path} is empty; fetch it again")
    return found


def read_json_list(path: Path) -> list[str]:
    """A JSON list of strings.

    Raises:
        DataError: missing or something else.
    """
    try:
        found = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}); fetch it again") from error
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise DataError(f"{path} is not a list of names; fetch it again")
    if not found:
        raise DataError(f"{path} is empty; fetch it again")
    return found


def names_of(path: Path, entry: str, count: int) -> tuple[str, ...]:
    """The ``count`` names between the slashes of an entry of the list ``path``.

    Raises:
        DataError: there are more or fewer, or one that is no plain file name.
    """
    names = tuple(entry.split("/"))
    if len(names) != count or not all(_NAME.fullmatch(name) for name in names):
        raise DataError(f"{path}: '{entry}' is not an entry of the official list; fetch it again")
    return names


def require_unique(path: Path, names: Sequence[str]) -> None:
    """That no name stands twice in the list ``path``.

    Raises:
        DataError: naming the first that does.
    """
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise DataError(f"{path}: '{name}' stands there {times} times; an id must be unique")


def require_disjoint(lists: Mapping[Path, Sequence[str]]) -> None:
    """That no name is in two of the lists, nor twice in one.

    Raises:
        DataError: naming the first that is.
    """
    seen: dict[str, Path] = {}
    for path, names in lists.items():
        require_unique(path, names)
        for name in names:
            if name in seen:
                raise DataError(
                    f"'{name}' is in {seen[name].name} and in {path.name} of {path.parent}; a "
                    "cloud belongs to one split"
                )
            seen[name] = path


def other_classes(path: Path, found: Sequence[str], published: Sequence[str]) -> list[str]:
    """A sentence where the classes that ``path`` lists are not the published ones in their order:
    labels then mean something else than elsewhere."""
    for line, (here, there) in enumerate(itertools.zip_longest(found, published), 1):
        if here != there:
            return [
                f"{path.name} differs from the published one: class {line} is {here or 'missing'}, "
                f"published is {there or 'none'}."
            ]
    return []


def _text(path: Path) -> str:
    data, _ = read_whole(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text file; fetch it again") from error
