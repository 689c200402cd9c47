"""Copies a run's journal to MLflow: what the server has not got yet, once, in batches."""

from __future__ import annotations

import json
import math
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sa3d.tracking.journal import FILE, read_from
from sa3d.tracking.mlflow_store import client, experiment_id
from sa3d.utils.files import write_whole

if TYPE_CHECKING:
    from mlflow import MlflowClient

CURSOR = "mlflow.json"
_BATCH = 1000  # metrics a request; the API's own limit
_LABELS = 100  # params or tags a request; the API's own limit
T = TypeVar("T")


class MlflowSync:
    """Brings one MLflow run up to date with one journal.

    Any method may raise what MLflow's client raises. What was sent before that is noted in
    ``mlflow.json`` and not sent again.
    """

    def __init__(self, run_dir: Path, uri: str) -> None:
        self.uri = uri
        self.lock = threading.RLock()
        self._run_dir = run_dir
        self._offset = 0
        self._client: MlflowClient | None = None
        self._about: dict[str, Any] = {}  # the journal's last `run` line
        self._closed: dict[str, Any] | None = None  # its `close` line, if that came after
        self._cursor = self._read_cursor()

    @property
    def run_id(self) -> str | None:
        """The MLflow run, once there is one."""
        found: str | None = self._cursor["run_id"]
        return found

    def rewind(self) -> None:
        """Read the journal from its start at the next :meth:`update`, because it was cut."""
        self._offset = 0

    def update(self) -> int:
        """Send what is new.

        Returns:
            Number of metric points sent.
        """
        with self.lock:
            entries, end = read_from(self._run_dir / FILE, self._offset)
            if not entries:
                return 0
            for entry in entries:
                if entry["kind"] == "run":
                    self._about, self._closed = entry, None
                elif entry["kind"] == "close":
                    self._closed = entry
            opened, run = self._open()
            sent = self._metrics(opened, run, entries)
            self._labels(opened, run, entries)
            self._artifacts(opened, run, entries)
            if self._closed is not None:
                opened.set_terminated(run, self._closed["status"], _milliseconds(self._closed))
            self._offset = end
            return sent

    def _open(self) -> tuple[MlflowClient, str]:
        """The client and the run's id; creates the run or continues the earlier one."""
        if self._client is None:
            opened = client(self.uri)
            if self.run_id is not None and not self._continue(opened, self.run_id):
                self._cursor = self._fresh()
            if self.run_id is None:
                name = self._about.get("experiment", "sa3d/pretrain")
                experiment = experiment_id(opened, name, self.uri)
                begun = opened.create_run(
                    experiment,
                    start_time=_milliseconds(self._about),
                    run_name=self._about.get("run_name", self._run_dir.name),
                )
                self._cursor["experiment_id"] = experiment
                self._cursor["run_id"] = begun.info.run_id
            self._save()
            self._client = opened
        assert self.run_id is not None
        return self._client, self.run_id

    def _continue(self, opened: MlflowClient, run: str) -> bool:
        """Continue an earlier run; False when the store no longer has it."""
        from mlflow.exceptions import MlflowException

        try:
            known = opened.get_run(run)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        steps = self._cursor["steps"]
        # After a kill between sending and noting it, the store has more than the note says.
        for key, value in known.data.metrics.items():
            last = max(metric.step for metric in opened.get_metric_history(run, key))
            steps[key] = max(last, steps.get(key, last))
            if not math.isnan(value):  # nan may stand for an infinity that the note has
                self._cursor["results"][key] = value
        if self._closed is None:
            opened.update_run(run, status="RUNNING")
        return True

    def _metrics(self, opened: MlflowClient, run: str, entries: list[dict[str, Any]]) -> int:
        """Send the points of curves that the store has not got, and results that changed."""
        from mlflow.entities import Metric

        def metric(key: str, entry: dict[str, Any]) -> Metric:
            value = entry["values"][key]
            # MLflow turns an infinity into a made-up finite number
            value = value if math.isfinite(value) else math.nan
            return Metric(key, value, _milliseconds(entry), entry["step"])

        steps, sent = self._cursor["steps"], self._cursor["results"]
        seen = dict(steps)
        points = []
        results: dict[str, dict[str, Any]] = {}
        for entry in entries:
            if entry["kind"] == "results":
                results |= dict.fromkeys(entry["values"], entry)
            elif entry["kind"] == "metrics":
                for key in entry["values"]:
                    # The journal's steps of a key increase (Journal.metrics), so what is not later
                    # was sent before a resume or before a kill.
                    if entry["step"] > seen.get(key, -1):
                        seen[key] = entry["step"]
                        points.append(metric(key, entry))
        for batch in _chunks(points, _BATCH):
            opened.log_batch(run, metrics=batch)
            steps.update({point.key: point.step for point in batch})
            self._save()
        changed = [key for key in results if sent.get(key) != results[key]["values"][key]]
        for keys in _chunks(changed, _BATCH):
            opened.log_batch(run, metrics=[metric(key, results[key]) for key in keys])
            sent.update({key: results[key]["values"][key] for key in keys})
            self._save()
        return len(points) + len(changed)

    def _labels(self, opened: MlflowClient, run: str, entries: list[dict[str, Any]]) -> None:
        from mlflow.entities import Param, RunTag

        sent = self._cursor["params"]
        params: dict[str, Any] = {}
        tags: dict[str, str] = {}
        for entry in entries:
            if entry["kind"] == "params":
                params.update({k: v for k, v in entry["values"].items() if k not in sent})
            elif entry["kind"] == "tags":
                tags.update(entry["values"])
        for some in _chunks([Param(key, str(value)) for key, value in params.items()], _LABELS):
            opened.log_batch(run, params=some)
        for few in _chunks([RunTag(key, value) for key, value in tags.items()], _LABELS):
            opened.log_batch(run, tags=few)
        sent.extend(params)
        self._save()

    def _artifacts(self, opened: MlflowClient, run: str, entries: list[dict[str, Any]]) -> None:
        sent = self._cursor["artifacts"]
        for entry in entries:
            mark = f"{entry['at']} {entry.get('path')}"
            if entry["kind"] != "artifact" or mark in sent:
                continue
            path = self._run_dir / entry["path"]
            if path.is_dir():
                opened.log_artifacts(run, str(path), entry["folder"] or path.name)
            elif path.is_file():
                opened.log_artifact(run, str(path), entry["folder"] or None)
            else:
                print(f"{path} is gone: not sent to MLflow", file=sys.stderr)  # noqa: T201
            sent.append(mark)
            self._save()

    def _read_cursor(self) -> dict[str, Any]:
        path = self._run_dir / CURSOR
        if path.is_file():
            cursor: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if cursor["uri"] == self.uri:
                return self._fresh() | cursor
        return self._fresh()

    def _fresh(self) -> dict[str, Any]:
        return {
            "uri": self.uri,
            "experiment_id": None,
            "run_id": None,
            "steps": {},  # of each curve, the last step that was sent
            "results": {},  # the last value that was sent (of curves, nobody reads it)
            "params": [],
            "artifacts": [],
        }

    def _save(self) -> None:
        write_whole(self._run_dir / CURSOR, json.dumps(self._cursor).encode())


@dataclass(frozen=True)
class SyncedRun:
    """The MLflow run of a run folder."""

    uri: str
    experiment_id: str
    run_id: str

    @property
    def url(self) -> str | None:
        """Its page, if the store is a server; opens MLflow's view for model training."""
        if not self.uri.startswith(("http://", "https://")):
            return None
        page = f"#/experiments/{self.experiment_id}/runs/{self.run_id}"
        return f"{self.uri.rstrip('/')}/{page}?workflowType=machine_learning"


def run_of(run_dir: Path) -> SyncedRun | None:
    """The MLflow run of a run folder, if it reached a store."""
    path = run_dir / CURSOR
    if not path.is_file():
        return None
    cursor = json.loads(path.read_text(encoding="utf-8"))
    if cursor["run_id"] is None:
        return None
    return SyncedRun(cursor["uri"], cursor["experiment_id"], cursor["run_id"])


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _milliseconds(entry: dict[str, Any]) -> int:
    return int(entry.get("at", 0) * 1000)
