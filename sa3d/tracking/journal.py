"""The run's own record: an append-only file beside the checkpoint, written before any server.

A tracking server that does not answer must neither stop nor falsify training, so every metric
goes to ``journal.jsonl`` in the run folder first; ``sa3d.tracking.tracker`` copies it to MLflow.
One JSON object per line: ``{"kind": "metrics", "step": 3, "at": 1732.5, "values": {...}}``, with
``"training": "fold-3"`` if it is one of several in the folder. Further kinds are ``results``,
``run``, ``params``, ``tags``, ``input`` (a data set), ``system`` (load of the machine),
``models`` (to be registered), ``artifact`` and ``close``.
"""

from __future__ import annotations

import json
import os
import shlex
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from sa3d.errors import UserError
from sa3d.utils.files import unwritable, write_whole

Status = Literal["FINISHED", "FAILED", "KILLED"]
FILE = "journal.jsonl"


class Tracker(Protocol):
    """Where a task records what it does. A server that does not answer stops none of this.

    A run folder may hold several trainings (the folds of a cross-validation). Each but one has a
    name, and its metrics are recorded under ``training/key``: ``fold-3/train/loss``.
    """

    def metrics(self, values: Mapping[str, float], step: int, training: str = "") -> None:
        """Record one point of each metric's curve.

        Args:
            values: scalars by key.
            step: the same or a later one for every call; each key's steps increase.
            training: name of the training; empty if the folder holds only one.

        Raises:
            ValueError: a key was already recorded at this step or a later one.
        """

    def results(self, values: Mapping[str, float], step: int = 0, training: str = "") -> None:
        """Record final numbers, such as test accuracy. The last value of a key replaces earlier
        ones: a run that was killed after this computes them again."""

    def params(self, values: Mapping[str, Any]) -> None:
        """Record settings, dotted names."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Record labels; a later value replaces an earlier one."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """Record a file or folder of results; it must stay where it is."""

    def resume(self, step: int, training: str = "") -> None:
        """Continue a training from its checkpoint taken after ``step``: forget its metrics of later
        steps. -1 begins the training again. Other trainings and results stay."""

    def flush(self) -> None:
        """Put everything recorded so far on the disk. Called beside each checkpoint."""

    def close(self, status: Status) -> None:
        """End the record. Nothing may be recorded afterwards."""


class Journal:
    """A :class:`Tracker` that writes ``run_dir/journal.jsonl`` and nothing else.

    Every line reaches the operating system at once, so that a killed process loses none;
    :meth:`flush` also forces them to the disk, for the machine's own death.

    Attributes:
        path: the file.
        id: names this journal for good, whatever becomes of its folder; MLflow's run has it as a
            tag.

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
        found = entries(self.path)
        self._last_steps = _last_steps(found)
        self._samples = sum(entry["kind"] == "system" for entry in found)
        self.id = identity(found) or uuid.uuid4().hex[:16]

    def metrics(self, values: Mapping[str, float], step: int, training: str = "") -> None:
        """See :class:`Tracker`."""
        values = _named(values, training)
        for key in values:
            last = self._last_steps.get(key, -1)
            if step <= last:
                raise ValueError(
                    f"{key} at step {step}, but step {last} is already recorded in {self.path}; "
                    "steps must increase: give each training of a run folder its own name, "
                    "and call resume() before repeating steps"
                )
        self._write("metrics", step=step, values=values, **_of(training))
        self._last_steps.update(dict.fromkeys(values, step))

    def results(self, values: Mapping[str, float], step: int = 0, training: str = "") -> None:
        """See :class:`Tracker`."""
        self._write("results", step=step, values=_named(values, training))

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

    def system(self, values: Mapping[str, float]) -> None:
        """Record how busy the machine is, one sample after the other. No report reads these."""
        self._write("system", step=self._samples, values=dict(values))
        self._samples += 1

    def resume(self, step: int, training: str = "") -> None:
        """See :class:`Tracker`. The file is replaced as a whole, so it is never half-cut."""
        found = entries(self.path)
        kept = [
            entry
            for entry in found
            if entry["kind"] != "metrics"
            or entry["step"] <= step
            or entry.get("training", "") != training
        ]
        if len(kept) == len(found):
            return
        with self._lock:
            write_whole(self.path, "".join(json.dumps(e) + "\n" for e in kept).encode())
            self._file.close()  # the file that was there before
            try:
                self._file = self.path.open("a", encoding="utf-8")
            except OSError as error:
                raise unwritable(self.path, error) from None
        self._last_steps = _last_steps(kept)

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


class NullTracker:
    """A :class:`Tracker` that records nothing: for every process of a run but the main one."""

    def metrics(self, values: Mapping[str, float], step: int, training: str = "") -> None:
        """Do nothing."""

    def results(self, values: Mapping[str, float], step: int = 0, training: str = "") -> None:
        """Do nothing."""

    def params(self, values: Mapping[str, Any]) -> None:
        """Do nothing."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Do nothing."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """Do nothing."""

    def resume(self, step: int, training: str = "") -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""

    def close(self, status: Status) -> None:
        """Do nothing."""


def entries(path: Path) -> list[dict[str, Any]]:
    """All complete lines of a journal; none where there is no file."""
    return read_from(path, 0)[0]


def read_from(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Complete lines from byte ``offset`` on, and the offset after the last of them.

    A last line without its end is being written, or was torn by a kill: left alone.

    Raises:
        UserError: naming a line that is none of a journal's.
    """
    found: list[dict[str, Any]] = []
    if not path.is_file():
        return found, offset
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                break
            entry = _parsed(line)
            if entry is None:
                raise _spoilt(path, offset)
            found.append(entry)
            offset += len(line)
    return found, offset


def _parsed(line: bytes) -> dict[str, Any] | None:
    """An entry; None: this line is none."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("kind"), str) else None


def _spoilt(path: Path, offset: int) -> UserError:
    number = path.read_bytes()[:offset].count(b"\n") + 1
    command = shlex.join(["sed", "-i", f"{number}d", str(path)])
    return UserError(
        f"{path}: line {number} is damaged; take it out (`{command}`) and run the command again: "
        "all other lines stay"
    )


def identity(found: Iterable[Mapping[str, Any]]) -> str | None:
    """The name of a journal with these lines; one of an earlier version has none."""
    return next((entry["id"] for entry in found if entry["kind"] == "run" and "id" in entry), None)


def read_journal(path: Path) -> dict[str, list[tuple[int, float]]]:
    """History of every metric, ``name -> [(step, value), ...]`` in the order of recording.

    A result has one point, its last value.

    Args:
        path: the journal, or the run folder that holds it.
    """
    history: dict[str, list[tuple[int, float]]] = {}
    for entry in entries(path / FILE if path.is_dir() else path):
        if entry["kind"] == "metrics":
            for name, value in entry["values"].items():
                history.setdefault(name, []).append((entry["step"], value))
        elif entry["kind"] == "results":
            history |= {name: [(entry["step"], value)] for name, value in entry["values"].items()}
    return history


def _named(values: Mapping[str, float], training: str) -> dict[str, float]:
    """The values under the keys that the journal and MLflow have them by."""
    section = f"{training}/" if training else ""
    return {section + key: float(value) for key, value in values.items()}


def _of(training: str) -> dict[str, str]:
    return {"training": training} if training else {}


def _last_steps(found: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The last step at which each metric was recorded."""
    steps: dict[str, int] = {}
    for entry in found:
        if entry["kind"] == "metrics":
            steps |= dict.fromkeys(entry["values"], entry["step"])
    return steps


def _drop_torn_line(path: Path) -> None:
    """Cut a last line without its end: what a kill in the middle of a write leaves."""
    if not path.is_file():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)
