"""Families by name: files that differ in the numbers of their names are variants of one thing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def without_numbers(name: str) -> str:
    """``DIP-14_W7.62mm`` and ``DIP-16_W10.16mm`` are both ``DIP-#_W#mm``."""
    return _NUMBER.sub("#", name)


def families_of_names(names: Sequence[str]) -> list[str]:
    """The family of each of the files of one class.

    That is the name without its numbers, where such names show families: none of them has more
    than half of the files. Where one has (``chair_0001``, ``chair_0002``, ...), numbers only
    count the files, and each is a family of its own.
    """
    found = [without_numbers(name) for name in names]
    largest = max(Counter(found).values(), default=0)
    return found if 2 * largest <= len(found) else list(names)
