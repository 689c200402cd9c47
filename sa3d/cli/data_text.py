"""How the state of data sets is shown to people."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from sa3d.data.check import Check, Listed
from sa3d.utils.files import size_text
from sa3d.utils.paths import shown

SHOWN = 6  # lines of one kind, more are only counted
_COLUMN = 12


def checked(found: Check) -> str:
    """The state of one data set: a heading, and a line or more for each thing known of it."""
    lines = [found.name if found.title == found.name else f"{found.name}: {found.title}"]
    if found.raw is not None:
        where = "" if found.raw.place is None else shown(found.raw.place)
        lines += _entry("raw", [found.raw_state.upper() if found.flawed else found.raw_state])
        lines += _entry("  place", [where] if where else [])
        lines += _entry("  found", [_facts(found.raw.facts)] if found.raw.facts else [])
        lines += _entry("  missing", found.raw.missing)
        lines += _entry("  PROBLEM", found.raw.problems)
        lines += _entry("  note", found.raw.notes)
        if found.raw_state in ("absent", "incomplete"):
            lines += _entry("  obtain", [found.obtain] if found.obtain else [])
    processed = found.processed
    lines += _entry("processed", [processed.state])
    lines += _entry("  place", [shown(processed.path)])
    lines += _entry("  found", [_facts(processed.facts)] if processed.facts else [])
    lines += _entry("  PROBLEM", processed.problems)
    lines += _entry("  note", processed.notes)
    return "\n".join(lines)


def table(rows: Sequence[Listed]) -> str:
    """One line a data set, and one more where something there is wrong."""
    head = ("data set", "raw", "processed", "raw size", "processed size", "for")
    cells = [
        (
            row.name,
            row.raw,
            row.processed,
            size_text(row.raw_bytes) if row.raw_bytes else f"({row.size})" if row.size else "-",
            size_text(row.processed_bytes) if row.processed_bytes else "-",
            row.purpose,
        )
        for row in rows
    ]
    widths = [max(len(line[at]) for line in [head, *cells]) for at in range(len(head))]
    lines = [_row(head, widths)]
    for row, line in zip(rows, cells, strict=True):
        lines.append(_row(line, widths))
        if row.note:
            lines += _wrapped(row.note, "    ! ")
    lines.append("sizes in brackets: of raw files that are not there")
    return "\n".join(lines)


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _facts(facts: Any) -> str:
    return ", ".join(f"{name} {_value(name, value)}" for name, value in facts.items())


def _value(name: str, value: Any) -> str:
    if name == "bytes":
        return f"{value} ({size_text(value)})"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)[:16] if name in ("digest", "source hash") else str(value)


def _entry(label: str, texts: Iterable[str]) -> list[str]:
    """The texts, each wrapped beside the label; of many the first few and a count."""
    texts = list(texts)
    rest = len(texts) - SHOWN
    if rest > 1:
        texts = [*texts[:SHOWN], f"... and {rest} more (--json has all)"]
    else:
        texts = texts[: SHOWN + 1]
    return [line for text in texts for line in _wrapped(text, f"  {label:<{_COLUMN}}")]


def _wrapped(text: str, before: str) -> list[str]:
    width = max(60, shutil.get_terminal_size((100, 24)).columns)
    return textwrap.wrap(
        text,
        width,
        initial_indent=before,
        subsequent_indent=" " * len(before),
        break_long_words=False,
        break_on_hyphens=False,
    )
