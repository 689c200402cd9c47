"""Families by name: files that differ in the numbers of their names are variants of one thing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal

How = Literal["auto", "names", "files"]

_LEAST: Final = 5
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def without_numbers(name: str) -> str:
    """``DIP-14_W7.62mm`` and ``DIP-16_W10.16mm`` are both ``DIP-#_W#mm``."""
    return _NUMBER.sub("#", name)


def families_of_names(names: Sequence[str], how: How = "auto") -> list[str]:
    """The family of each of the files of one class.

    ``names``: the name without its numbers. ``files``: each file is a family of its own. ``auto``:
    the first where that shows families to choose from, at least five and none with more than half
    of the files; else (``chair_0001``, ``chair_0002``, ...) numbers only count the files.
    """
    found = [without_numbers(name) for name in names]
    sizes = Counter(found).values()
    shown = len(sizes) >= _LEAST and 2 * max(sizes) <= len(found)
    return found if how == "names" or (how == "auto" and shown) else list(names)
