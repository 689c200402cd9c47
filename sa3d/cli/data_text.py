"""How the state of data sets is shown to people."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sa3d.data.check import Check, Listed
from sa3d.data.cloud_table import SPLITS
from sa3d.utils.files import size_text
from sa3d.utils.paths import shown
from sa3d.utils.text import examples

SHOWN = 8  # lines of one kind, more are only counted
_COLUMN = 12
PROBLEM = "  PROBLEM"


def checked(found: Check) -> str:
    """The state of one data set: a heading, and a line or more for each thing known of it."""
    lines = [found.name if found.title == found.name else f"{found.name}: {found.title}"]
    raw, processed = found.raw, found.processed
    if raw is not None:
        state = found.raw_state
        lines += _entry("raw", [state.upper() if state == "incomplete" else state])
        lines += _entry("  place", [] if raw.place is None else [shown(raw.place)])
        lines += _entry(
            "  found", [f"{name}: {_value(value)}" for name, value in raw.facts.items()]
        )
        lines += _entry("  missing", raw.missing)
        lines += _entry(PROBLEM, raw.problems)
        lines += _entry("  note", raw.notes)
        lines += _entry("  obtain", [found.obtain] if raw.missing and found.obtain else [])
    bad = processed.state in ("damaged", "unreadable")
    lines += _entry("processed", [processed.state.upper() if bad else processed.state])
    if processed.state == "endless":
        lines += _entry("  found", [f"{key}: {value}" for key, value in processed.facts.items()])
    else:
        lines += _entry("  place", [shown(processed.path)])
        lines += _entry("  found", _contents(processed.facts) if processed.facts else [])
    lines += _entry(PROBLEM, processed.problems)
    lines += _entry("  note", processed.notes)
    return "\n".join(lines)


def _contents(facts: Mapping[str, Any]) -> list[str]:
    """What is in a processed file, in three lines."""
    least, most = facts["least points"], facts["most points"]
    points = f"{least} points" if least == most else f"{least} to {most} points"
    counts = ", ".join(f"{facts[name]} {name}" for name in SPLITS if facts[name])
    others = ("classes", "families", "parts", "episodes")
    more = ", ".join(f"{facts[name]} {name}" for name in others if facts[name])
    normals = ", with normals" if facts["normals"] else ""
    return [
        f"{facts['clouds']} clouds of {points}{normals}: {counts}",
        f"{more}; normalisation: {facts['normalisation']}",
        f"{size_text(facts['bytes'])}, digest {facts['digest'][:16]}, source hash "
        f"{facts['source hash'][:16]}",
    ]


def table(rows: Sequence[Listed]) -> str:
    """A line or more a data set: its state, the sizes of what is there, and what it is for."""
    head = ("data set", "raw", "processed", "raw size", "processed size")
    cells = [
        (row.name, row.raw, row.processed, _size(row.raw_bytes), _size(row.processed_bytes))
        for row in rows
    ]
    widths = [max(len(line[at]) for line in [head, *cells]) for at in range(len(head))]
    lines = [f"{_row(head, widths)}  for"]
    for row, line in zip(rows, cells, strict=True):
        lacking = f"; raw files: {row.size}" if row.size and row.raw == "absent" else ""
        lines += _wrapped(f"{row.purpose}{lacking}", f"{_row(line, widths)}  ")
        lines += _wrapped(row.note, "    ! ") if row.note else []
    return "\n".join(lines)


def _size(size: int) -> str:
    return size_text(size) if size else "-"


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))


def _value(value: Any) -> str:
    """A fact in one line; of a long list the first entries and a count."""
    if isinstance(value, Mapping):
        return examples([f"{key} {_value(each)}" for key, each in value.items()])
    if isinstance(value, (list, tuple)):
        return examples([str(each) for each in value])
    return str(value)


def _entry(label: str, texts: Iterable[str]) -> list[str]:
    """The texts, each wrapped beside the label; of many the first few and a count."""
    texts = list(texts)
    if len(texts) > SHOWN + 1:
        texts = [*texts[:SHOWN], f"... and {len(texts) - SHOWN} more (--json has all)"]
    labels = [label, *[label if label == PROBLEM else ""] * len(texts)]
    return [
        line
        for label, text in zip(labels, texts, strict=False)
        for line in _wrapped(text, f"  {label:<{_COLUMN}}")
    ]


def _wrapped(text: str, before: str) -> list[str]:
    width = max(len(before) + 30, shutil.get_terminal_size((100, 24)).columns)
    return textwrap.wrap(
        text,
        width,
        initial_indent=before,
        subsequent_indent=" " * len(before),
        break_long_words=False,
        break_on_hyphens=False,
    )
