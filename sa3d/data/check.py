"""What is there of a data set: ``sa3d data check`` and ``sa3d data list``."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from sa3d.config.base import Frozen
from sa3d.data.prepare import MADE_FROM, origin, stale, summary_of
from sa3d.data.presence import about, inventory, is_absent, raw_check, raw_folder
from sa3d.data.processed_check import ProcessedCheck, State, processed_check
from sa3d.data.raw import RawCheck

RawState = Literal["generated", "there", "incomplete", "absent", "none"]


@dataclass(frozen=True)
class Check:
    """The raw and the processed files of one data set.

    Attributes:
        name: its key in ``params.yaml``.
        title: as papers write it.
        raw: None: no source makes it, only its processed file counts.
        processed: the file that runs read.
        obtain: how to get the raw files.
    """

    name: str
    title: str
    raw: RawCheck | None
    processed: ProcessedCheck
    obtain: str = ""

    @property
    def raw_state(self) -> RawState:
        """The raw files in a word; ``none``: no source makes the data set."""
        return "none" if self.raw is None else raw_state(self.raw)

    @property
    def flawed(self) -> bool:
        """Whether something that is there is wrong or incomplete."""
        return bool(self.processed.problems) or self.raw_state == "incomplete"

    @property
    def fine(self) -> bool:
        """Whether runs can read the data set, and nothing of it is wrong."""
        return self.processed.usable and not self.flawed

    def as_json(self) -> dict[str, Any]:
        """Plain values; ``data/README.md`` says what the keys mean."""
        raw = None if self.raw is None else _plain(self.raw, "place")
        return {
            "name": self.name,
            "title": self.title,
            "fine": self.fine,
            "raw": raw if raw is None else {"state": self.raw_state, **raw},
            "processed": _plain(self.processed, "path"),
            "obtain": self.obtain,
        }


def check(name: str, source: Frozen | None, out: Path, *, full: bool = True) -> Check:
    """Look at the raw and the processed data of ``name`` without changing anything.

    ``source`` is None for a data set that no source makes. ``full`` also reads the whole processed
    file. Problems are told in the result, not raised.
    """
    processed = processed_check(name, source, Path(out), full=full)
    if source is None:
        return Check(name, name, None, processed)
    said = about(source)
    fetched = (
        f"`sa3d data fetch {shlex.quote(name)}` downloads it. By hand: " if said.downloads else ""
    )
    return Check(name, said.title, raw_check(source), processed, f"{fetched}{said.obtain}")


@dataclass(frozen=True)
class Listed:
    """One line of ``sa3d data list``; sizes in bytes, 0 where nothing is there."""

    name: str
    raw: RawState
    processed: State
    raw_bytes: int
    processed_bytes: int
    purpose: str
    size: str
    note: str = ""


def listed(name: str, source: Frozen | None, out: Path) -> Listed:
    """The state of a data set, without reading its clouds."""
    found = processed_check(name, source, out, full=False)
    size = out.stat().st_size if out.is_file() else 0
    note = found.problems[0] if found.problems else ""
    if source is None:
        return Listed(name, "none", found.state, 0, size, "no source makes it", "", note)
    said, raw = about(source), inventory(raw_folder(source))
    made_from = summary_of(out).get(MADE_FROM)
    if raw_folder(source) is None:
        state: RawState = "generated"
    elif made_from == origin(source) and raw.files and not stale(source, out):
        state = "there"  # it has been prepared from just these files
    else:
        raws = raw_check(source, read=False)
        state = raw_state(raws)
        if state == "incomplete" and not note:
            note = (*raws.problems, *raws.missing)[0]
    return Listed(name, state, found.state, raw.bytes, size, said.purpose, said.size, note)


def raw_state(found: RawCheck) -> RawState:
    """A source's raw files in a word."""
    if found.place is None:
        return "generated"
    if is_absent(found):
        return "absent"
    return "there" if found.fine else "incomplete"


def _plain(found: RawCheck | ProcessedCheck, path: str) -> dict[str, Any]:
    tree = asdict(found)
    return tree | {path: None if tree[path] is None else str(tree[path])}
