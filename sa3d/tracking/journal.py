"""The run's own record: an append-only file beside the checkpoint, written before any server.

A tracking server that is away must neither stop nor falsify training, so every metric goes
to ``journal.jsonl`` in the run folder first; ``sa3d.tracking.tracker`` ships it on. One JSON object
a line, ``{"kind": "metrics", "step": 3, "at": 1732.5, "values": {...}}``; further kinds are
``run``, ``params``, ``tags``, ``artifact`` and ``close``.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from sa3d.errors import UserError
from sa3d.utils.files import unwritable, write_whole

Status = Literal["FINISHED", "FAILED", "KILLED"]
FILE = "journal.jsonl"


class Tracker(Protocol):
    """What a task tells about itself. None of these may stop training for want of a server."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record scalars at a step. A key is recorded once a step; steps do not go back."""

    def params(self, values: Mapping[str, Any]) -> None:
        """Record settings, dotted names."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Record labels; a later value replaces an earlier one."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """Record a file or folder of results; it must stay where it is."""

    def resume(self, step: int) -> None:
        """Continue from a checkpoint taken after ``step``: forget metrics of later steps."""

    def flush(self) -> None:
        """Put everything recorded so far on the disk. Called beside each checkpoint."""

    def close(self, status: Status) -> None:
        """End the record. Nothing may be recorded afterwards."""


class NullTracker:
    """The tracker of every process but the main one: records nothing."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Nothing."""

    def params(self, values: Mapping[str, Any]) -> None:
        """Nothing."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Nothing."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """Nothing."""

    def resume(self, step: int) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""

    def close(self, status: Status) -> None:
        """Nothing."""


class Journal:
    """A :class:`Tracker` that writes ``run_dir/journal.jsonl`` and nothing else.

    Every line reaches the operating system at once, so that a killed process loses none;
    :meth:`flush` also forces them to the disk, for the machine's own death.

    Raises:
        WriteError: when the file cannot be written (a full disk, no permission).
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / FILE
        self._lock = threading.Lock()
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
            _drop_torn_line(self.path)
            self._file = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise unwritable(self.path, error) from None
        self.last_step = max(
            (e["step"] for e in entries(self.path) if e["kind"] == "metrics"), default=-1
        )

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """See :class:`Tracker`."""
        self._write("metrics", step=step, values={k: float(v) for k, v in values.items()})
        self.last_step = max(self.last_step, step)

    def params(self, values: Mapping[str, Any]) -> None:
        """See :class:`Tracker`."""
        self._write("params", values=dict(values))

    def tags(self, values: Mapping[str, str]) -> None:
        """See :class:`Tracker`."""
        self._write("tags", values={k: str(v) for k, v in values.items()})

    def artifact(self, path: Path, folder: str = "") -> None:
        """See :class:`Tracker`. Paths below the run folder are kept relative to it."""
        path, base = path.resolve(), self.path.parent.resolve()
        name = path.relative_to(base) if path.is_relative_to(base) else path
        self._write("artifact", path=str(name), folder=folder)

    def entry(self, kind: str, **fields: Any) -> None:
        """Append a line of another kind (the tracker's own ``run``)."""
        self._write(kind, **fields)

    def resume(self, step: int) -> None:
        """See :class:`Tracker`: the file is replaced as a whole, so never half-cut."""
        if self.last_step <= step:
            return
        kept = [e for e in entries(self.path) if e["kind"] != "metrics" or e["step"] <= step]
        with self._lock:
            write_whole(self.path, "".join(json.dumps(e) + "\n" for e in kept).encode())
            self._file.close()  # the file that was there before
            try:
                self._file = self.path.open("a", encoding="utf-8")
            except OSError as error:
                raise unwritable(self.path, error) from None
        self.last_step = step

    def flush(self) -> None:
        """See :class:`Tracker`."""
        with self._lock:
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                raise unwritable(self.path, error) from None

    def close(self, status: Status) -> None:
        """See :class:`Tracker`."""
        self._write("close", status=status)
        self.flush()
        self._file.close()

    def _write(self, kind: str, **fields: Any) -> None:
        line = json.dumps({"kind": kind, "at": round(time.time(), 3), **fields}) + "\n"
        with self._lock:
            try:
                self._file.write(line)
                self._file.flush()
            except OSError as error:
                raise unwritable(self.path, error) from None


def entries(path: Path) -> list[dict[str, Any]]:
    """All complete lines of a journal; none where there is no file."""
    return read_from(path, 0)[0]


def read_from(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Complete lines from byte ``offset`` on, and the offset after the last of them.

    A last line without its end is being written, or was torn by a kill: left alone.

    Raises:
        UserError: naming the place of a line that is not JSON.
    """
    found: list[dict[str, Any]] = []
    if not path.is_file():
        return found, offset
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                break
            try:
                found.append(json.loads(line))
            except ValueError:
                raise UserError(
                    f"{path}: the line at byte {offset} is not JSON; delete it and run again"
                ) from None
            offset += len(line)
    return found, offset


def read_journal(path: Path) -> dict[str, list[tuple[int, float]]]:
    """History of every metric, ``name -> [(step, value), ...]`` in the order of recording.

    Args:
        path: the journal, or the run folder that holds it.
    """
    history: dict[str, list[tuple[int, float]]] = {}
    for entry in entries(path / FILE if path.is_dir() else path):
        if entry["kind"] == "metrics":
            for name, value in entry["values"].items():
                history.setdefault(name, []).append((entry["step"], value))
    return history


def _drop_torn_line(path: Path) -> None:
    """Cut a last line without its end: what a kill in the middle of a write leaves."""
    if not path.is_file():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)
