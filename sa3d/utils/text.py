"""Long lists in messages."""

from __future__ import annotations

from collections.abc import Sequence


def examples(names: Sequence[str], most: int = 5) -> str:
    """The first names in one line, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
