"""Copies a run's journal to MLflow: what the server has not got yet, once, in batches."""

from __future__ import annotations

import json
import math
import shlex
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from filelock import FileLock, Timeout

from sa3d.errors import UserError
from sa3d.tracking import cursor
from sa3d.tracking.cursor import SyncedRun as SyncedRun
from sa3d.tracking.journal import FILE, read_from
from sa3d.tracking.mlflow_store import client, experiment_id

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

JOURNAL: Final = "journal"
"""The tag with the name of a run's journal, by which the run is found again."""
LOCK: Final = ".mlflow.lock"
_BATCH = 1000  # metrics a request; the API's own limit
_LABELS = 100  # params or tags a request; the API's own limit
_SENDING = 60.0  # seconds to wait for another process that sends the same journal
T = TypeVar("T")


class DeletedRunError(UserError):
    """Somebody deleted the run in MLflow."""


class MlflowSync:
    """Brings one MLflow run up to date with one journal.

    Any method may raise what MLflow's client raises. What was sent before that is noted in
    ``mlflow.json`` and not sent again.
    """

    def __init__(self, run_dir: Path, uri: str) -> None:
        self.uri = uri
        self.lock = threading.Lock()  # held while the journal is read, and while it is cut
        self._run_dir = run_dir
        self._offset = 0
        self._cut = False
        self._client: MlflowClient | None = None
        self._about: dict[str, Any] = {}  # the journal's last `run` line
        self._closed: dict[str, Any] | None = None  # its `close` line, if that came after
        self._cursor = cursor.fresh(uri)  # what the file says is read with the first sending

    @property
    def run_id(self) -> str | None:
        """The MLflow run, once there is one."""
        found: str | None = self._cursor["run_id"]
        return found

    def rewind(self) -> None:
        """Read the journal from its start at the next :meth:`update`, because it was cut. To be
        called with :attr:`lock` held since before the cut."""
        self._cut = True

    def update(self) -> int:
        """Send what is new.

        Returns:
            Number of metric points sent.

        Raises:
            DeletedRunError: somebody deleted the run in MLflow.
            UserError: a damaged journal, a deleted experiment, or another process sends this one.
        """
        lock = FileLock(self._run_dir / LOCK, thread_local=False, fallback_to_soft=False)
        try:
            lock.acquire(timeout=_SENDING)
        except Timeout:
            raise UserError(f"another process is sending {self._run_dir} to MLflow") from None
        try:
            return self._update()
        finally:
            lock.release()

    def _update(self) -> int:
        with self.lock:
            if self._cut:
                self._offset, self._cut = 0, False
            entries, end = read_from(self._run_dir / FILE, self._offset)
        if not entries:
            return 0
        for entry in entries:
            if entry["kind"] == "run":
                self._about, self._closed = entry, None
            elif entry["kind"] == "close":
                self._closed = entry
        opened, run = self._open()
        try:
            sent = self._metrics(opened, run, entries)
            self._labels(opened, run, entries)
            self._inputs(opened, run, entries)
            self._artifacts(opened, run, entries)
            if self._closed is not None:
                opened.set_terminated(run, self._closed["status"], _milliseconds(self._closed))
        except Exception as error:
            self._client = None  # look again at what the store has
            self._explain(opened, run, error)
            raise
        self._offset = end
        return sent

    def _open(self) -> tuple[MlflowClient, str]:
        """The client and the run's id; creates the run or continues the earlier one."""
        if self._client is None:
            opened = client(self.uri)
            self._cursor = self._read_cursor()  # another process may have sent some meanwhile
            if self.run_id is None:
                self._find(opened)
            if self.run_id is not None and not self._continue(opened, self.run_id):
                self._cursor = cursor.fresh(self.uri)
            if self.run_id is None:
                self._create(opened)
            self._save()
            self._client = opened
        assert self.run_id is not None
        return self._client, self.run_id

    def _experiment(self, opened: MlflowClient) -> str:
        return experiment_id(opened, self._about.get("experiment", "sa3d/pretrain"), self.uri)

    def _create(self, opened: MlflowClient) -> None:
        experiment = self._experiment(opened)
        begun = opened.create_run(
            experiment,
            start_time=_milliseconds(self._about),
            run_name=self._about.get("run_name", self._run_dir.name),
            tags={JOURNAL: self._about["id"]} if "id" in self._about else {},
        )
        self._cursor["experiment_id"] = experiment
        self._cursor["run_id"] = begun.info.run_id

    def _find(self, opened: MlflowClient) -> None:
        """Take up the run of this journal if the store has it though nothing here says so: the
        note of it was lost, or its process killed before it was written."""
        if "id" not in self._about:
            return  # a journal of an earlier version
        experiment = self._experiment(opened)
        found = opened.search_runs([experiment], f"tags.{JOURNAL} = '{self._about['id']}'")
        if found:
            self._cursor["experiment_id"] = experiment
            self._cursor["run_id"] = found[0].info.run_id

    def _continue(self, opened: MlflowClient, run: str) -> bool:
        """Continue an earlier run; False when the store no longer has it."""
        from mlflow.exceptions import MlflowException

        try:
            known = opened.get_run(run)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        self._refuse_deleted(known)
        steps = self._cursor["steps"]
        # After a kill between sending and noting it, the store has more than the note says.
        for metric in known.data.to_proto().metrics:  # of each the last
            steps[metric.key] = max(metric.step, steps.get(metric.key, metric.step))
            if not math.isnan(metric.value):  # nan may stand for an infinity that the note has
                self._cursor["results"][metric.key] = metric.value
        self._cursor["params"] = sorted({*self._cursor["params"], *known.data.params})
        if self._closed is None:
            opened.update_run(run, status="RUNNING")
        return True

    def _explain(self, opened: MlflowClient, run: str, error: Exception) -> None:
        """Say it if the store refused because somebody deleted the run meanwhile."""
        from mlflow.exceptions import MlflowException

        refused = ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST")
        if isinstance(error, MlflowException) and error.error_code in refused:
            self._refuse_deleted(opened.get_run(run))

    def _refuse_deleted(self, known: Run) -> None:
        """MLflow takes nothing for a deleted run; whoever deleted it wants no other in its place.

        Raises:
            DeletedRunError: it is one.
        """
        if known.info.lifecycle_stage == "deleted":
            raise DeletedRunError(
                f"the MLflow run of {self._run_dir} was deleted there; restore it (MLFLOW_TRACKING_"
                f"URI={shlex.quote(self.uri)} mlflow runs restore --run-id {known.info.run_id}), "
                f"or delete {self._run_dir / cursor.FILE} to have a new one"
            )

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
            elif entry["kind"] in ("metrics", "system"):
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

    def _inputs(self, opened: MlflowClient, run: str, entries: list[dict[str, Any]]) -> None:
        """Log the data sets that the run reads. MLflow's column shows their names."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        sent = self._cursor["inputs"]
        for entry in entries:
            mark = [entry.get("name"), entry.get("digest")]
            if entry["kind"] != "input" or mark in sent:
                continue
            data = Dataset(
                name=entry["name"],
                digest=entry["digest"],
                source_type=entry["source_type"],
                source=json.dumps(entry["source"]),
                profile=json.dumps(entry["profile"]),
            )
            tags = [InputTag("mlflow.data.context", entry["context"])]
            opened.log_inputs(run, datasets=[DatasetInput(data, tags)])
            sent.append(mark)
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
                say(f"{path} is gone: not sent to MLflow")
            sent.append(mark)
            self._save()

    def _read_cursor(self) -> dict[str, Any]:
        try:
            found = cursor.read(self._run_dir)
        except cursor.UnreadableCursorError as damage:
            say(f"{damage}; the run is looked for in MLflow, and the file made anew")
            found = None
        return found if found is not None and found["uri"] == self.uri else cursor.fresh(self.uri)

    def _save(self) -> None:
        cursor.write(self._run_dir, self._cursor)


def run_of(run_dir: Path) -> SyncedRun | None:
    """The MLflow run of a run folder, if it reached a store."""
    try:
        found = cursor.read(run_dir)
    except cursor.UnreadableCursorError as damage:
        say(f"{damage}: no link to MLflow; mend it with: {sync_command(run_dir)}")
        return None
    if found is None or found["run_id"] is None:
        return None
    return SyncedRun(found["uri"], found["experiment_id"], found["run_id"])


def sync_command(run_dir: Path) -> str:
    """What sends the rest of a run folder's journal."""
    return f"sa3d sync {shlex.quote(str(run_dir))}"


def say(message: str) -> None:
    """Tell the user, in the run's own log."""
    print(message, file=sys.stderr, flush=True)  # noqa: T201


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _milliseconds(entry: dict[str, Any]) -> int:
    return int(entry.get("at", 0) * 1000)
