"""Long lists in messages, and messages that say the same."""

from __future__ import annotations

import re
from collections.abc import Sequence


def examples(names: Sequence[str], most: int = 5) -> str:
    """The first names in one line, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def without_log(reason: str) -> str:
    """Why a run failed, without the place of its log: the same text for the same reason."""
    return re.sub(r" \(log: [^)]*\)|; log: [^)]*(?=\))", "", reason)
