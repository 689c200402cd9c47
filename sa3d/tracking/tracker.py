"""Runs in MLflow: recorded in the journal first, then copied to MLflow in the background.

A task records into :class:`sa3d.tracking.journal.Journal`; a thread here reads that file and sends
what MLflow has not got yet, in batches, by explicit run id. ``mlflow.json`` beside the journal says
how far that is: which server, which run, and up to which step of which metric. If the server does
not answer, one line on stderr says so and training goes on; ``sa3d sync DIR`` sends the rest later.
This is the only module that logs to MLflow; ``sa3d.tracking.model_registry`` registers models.
"""

from __future__ import annotations

import os
import shlex
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from sa3d.errors import UserError
from sa3d.tracking import lineage
from sa3d.tracking.journal import FILE, Journal, Status
from sa3d.tracking.mlflow_store import short, tracking_uri
from sa3d.tracking.mlflow_sync import MlflowSync
from sa3d.utils.telemetry import disable_telemetry

_PERIOD = 10.0  # seconds between batches; a batch costs the server about as much as one point
_LONGEST = 120.0  # most seconds between attempts while the server does not answer


class MlflowTracker:
    """A :class:`sa3d.tracking.journal.Tracker`: a journal, and a thread that copies it to MLflow.

    As a context manager it is closed with the status that follows from the exception, if any.
    """

    def __init__(self, journal: Journal, sync: MlflowSync) -> None:
        self._journal = journal
        self._sync = sync
        self._run_dir = journal.path.parent
        self._changed = threading.Event()
        self._ending = threading.Event()
        self._complained = False
        self._thread = threading.Thread(target=self._work, name="mlflow-sync", daemon=True)
        self._thread.start()

    def metrics(self, values: Mapping[str, float], step: int, training: str = "") -> None:
        """See :class:`sa3d.tracking.journal.Tracker`."""
        self._journal.metrics(values, step, training)

    def results(self, values: Mapping[str, float], step: int = 0, training: str = "") -> None:
        """See :class:`sa3d.tracking.journal.Tracker`."""
        self._journal.results(values, step, training)

    def params(self, values: Mapping[str, Any]) -> None:
        """See :class:`sa3d.tracking.journal.Tracker`."""
        self._journal.params(values)

    def tags(self, values: Mapping[str, str]) -> None:
        """See :class:`sa3d.tracking.journal.Tracker`."""
        self._journal.tags(values)

    def artifact(self, path: Path, folder: str = "") -> None:
        """See :class:`sa3d.tracking.journal.Tracker`."""
        self._journal.artifact(path, folder)

    def resume(self, step: int, training: str = "") -> None:
        """See :class:`sa3d.tracking.journal.Tracker`."""
        with self._sync.lock:
            self._journal.resume(step, training)
            self._sync.rewind()

    def flush(self) -> None:
        """See :class:`sa3d.tracking.journal.Tracker`."""
        self._journal.flush()
        self._changed.set()

    def close(self, status: Status) -> None:
        """See :class:`sa3d.tracking.journal.Tracker`. Sends the rest or says how to."""
        self._journal.close(status)
        self._ending.set()
        self._changed.set()
        self._thread.join()
        failed = self._attempt()
        if failed is not None:
            _say(
                f"MLflow at {self._sync.uri} lacks part of this run ({failed}); "
                f"all of it is in {self._run_dir / FILE}. When the server is back: "
                f"sa3d sync {shlex.quote(str(self._run_dir))}"
            )

    def __enter__(self) -> MlflowTracker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(_status_of(error))

    def _work(self) -> None:
        pause = _PERIOD
        while not self._ending.is_set():
            self._changed.wait(pause)
            self._changed.clear()
            if self._ending.is_set():
                return  # close() sends the rest in its own thread
            failed = self._attempt()
            pause = min(_LONGEST, pause * 2) if failed else _PERIOD
            if failed and not self._complained:
                self._complained = True
                _say(f"MLflow at {self._sync.uri} does not answer ({failed}); going on without")

    def _attempt(self) -> str | None:
        """Send what is new; returns the error in a few words if that failed."""
        try:
            self._sync.update()
        except Exception as error:  # a tracker may fail in any way; training must not
            return short(error)
        return None


def open_tracker(
    run_dir: Path,
    *,
    experiment: str,
    run_name: str,
    tags: Mapping[str, str],
) -> MlflowTracker:
    """A tracker of the run in ``run_dir``; an earlier MLflow run of that folder is continued.

    Args:
        run_dir: the run folder; holds the journal and ``mlflow.json``.
        experiment: MLflow experiment, one per task (``sa3d/pretrain``).
        run_name: names what differs from other runs, not the time.
        tags: the run's own, such as task, variant, seed, fingerprint, data (the data
            set's name), start. Lineage tags (commit, data hash, host, flow run) are added here.
    """
    disable_telemetry()
    journal = Journal(run_dir)
    journal.entry("run", experiment=experiment, run_name=run_name)
    own = {key: str(value) for key, value in tags.items()}
    journal.tags(own | lineage.tags(own.get("data")) | {"process": _process()})
    return MlflowTracker(journal, MlflowSync(run_dir, tracking_uri()))


def sync(run_dir: Path) -> int:
    """Send everything in the run folder's journal that MLflow has not got yet.

    Returns:
        Number of metric points sent.

    Raises:
        UserError: no journal there, or the server does not answer.
    """
    if not (run_dir / FILE).is_file():
        raise UserError(f"no {FILE} in {run_dir}: give a run folder, as in work/pretrain-...")
    uri = tracking_uri()
    try:
        return MlflowSync(run_dir, uri).update()
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"MLflow at {uri} does not answer ({short(error)}); nothing is lost, try again later"
        ) from error


def _status_of(error: BaseException | None) -> Status:
    if error is None or (isinstance(error, SystemExit) and not error.code):
        return "FINISHED"
    if isinstance(error, KeyboardInterrupt) or (
        isinstance(error, SystemExit) and error.code in (130, 143)
    ):
        return "KILLED"
    return "FAILED"


def _process() -> str:
    """This process, told apart from a later one with the same number."""
    import psutil

    return f"{os.getpid()}@{psutil.Process().create_time():.2f}"


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)  # noqa: T201 - the run's own log
