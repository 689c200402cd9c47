"""Runs in MLflow: recorded in the journal first, then copied to MLflow in the background.

A task records into :class:`sa3d.tracking.journal.Journal`; a thread here reads that file and sends
what MLflow has not got yet, in batches, by explicit run id. ``mlflow.json`` beside the journal says
how far that is: which server, which run, and up to which step of which metric. If the server does
not answer, one line on stderr says so and training goes on; ``sa3d sync DIR`` sends the rest later.
Offline (:func:`sa3d.tracking.mlflow_store.offline`) there is the journal alone.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from sa3d.errors import UserError
from sa3d.tracking import lineage
from sa3d.tracking.data_sets import DataUse
from sa3d.tracking.journal import FILE, Journal, Status
from sa3d.tracking.mlflow_store import offline, short, tracking_uri
from sa3d.tracking.mlflow_sync import JOURNAL, MlflowSync, say, sync_command
from sa3d.tracking.system_metrics import SystemMetrics
from sa3d.utils.paths import shown
from sa3d.utils.processes import identity
from sa3d.utils.telemetry import disable_telemetry

LEFT_TO_FLOW: Final = "SA3D_LEFT_TO_FLOW"
"""Set by a flow that sends what short runs leave: loading MLflow would take them seconds."""
_PERIOD = 10.0  # seconds between batches; a batch costs the server about as much as one point
_SHORT = 20.0  # seconds after which a run under a flow sends for itself, so that it can be followed
_LONGEST = 120.0  # most seconds between attempts while the server does not answer


class MlflowTracker:
    """A :class:`sa3d.tracking.journal.Tracker`: a journal, and a thread that copies it to MLflow.

    As a context manager it is closed with the status that follows from the exception, if any.

    Args:
        journal: where everything is recorded.
        sync: what sends it; None: nothing is sent.
        system: record how busy the machine is, too.
        left: a run that is over within seconds is sent by somebody else.
    """

    def __init__(
        self,
        journal: Journal,
        sync: MlflowSync | None,
        *,
        system: bool = False,
        left: bool = False,
    ) -> None:
        self._journal = journal
        self._sync = sync
        self._run_dir = journal.path.parent
        self._changed = threading.Event()
        self._ending = threading.Event()
        self._left = left
        self._in_vain: str | None = None  # why an attempt failed that ended after close() began
        self._system = SystemMetrics(journal.system, self._run_dir) if system else None
        self._thread = threading.Thread(target=self._work, name="mlflow-sync", daemon=True)
        if sync is not None:
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

    def models(self, found: Iterable[Mapping[str, Any]]) -> None:
        """Record models that :mod:`sa3d.tracking.catching_up` shall register.

        Args:
            found: of each the ``folder`` of its run, ``experiment``, ``variant``, and whether it
                becomes the ``candidate``.
        """
        self._journal.entry("models", found=[dict(each) for each in found])

    def resume(self, step: int, training: str = "") -> None:
        """See :class:`sa3d.tracking.journal.Tracker`."""
        if self._sync is None:
            self._journal.resume(step, training)
            return
        with self._sync.lock:
            self._journal.resume(step, training)
            self._sync.rewind()

    def flush(self) -> None:
        """See :class:`sa3d.tracking.journal.Tracker`."""
        self._journal.flush()
        self._changed.set()

    def close(self, status: Status) -> None:
        """See :class:`sa3d.tracking.journal.Tracker`. Sends the rest or says how to."""
        if self._system is not None:
            self._system.stop()
        self._journal.close(status)
        command = sync_command(self._run_dir)
        if self._sync is None:
            say(f"offline: MLflow has nothing of this run yet; send it with: {command}")
            return
        self._ending.set()
        self._changed.set()
        self._thread.join()
        if self._left:
            return
        # a server that hangs takes its time to fail: once is enough
        failed = self._in_vain or self._attempt(self._sync)
        if failed is not None:
            say(
                f"MLflow at {self._sync.uri} lacks part of this run ({failed}); "
                f"all of it is in {self._run_dir / FILE}. Send the rest later: {command}"
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
        assert self._sync is not None
        pause, told = _PERIOD, ""
        if self._left and self._ending.wait(_SHORT):
            return
        self._left = False
        while not self._ending.is_set():
            self._changed.wait(pause)
            self._changed.clear()
            if self._ending.is_set():
                return  # close() sends the rest in its own thread
            failed = self._attempt(self._sync)
            if self._ending.is_set():
                self._in_vain = failed
                return
            pause = min(_LONGEST, pause * 2) if failed else _PERIOD
            if failed and failed != told:
                told = failed
                say(f"MLflow at {self._sync.uri} takes nothing ({failed}); going on without")

    @staticmethod
    def _attempt(sync: MlflowSync) -> str | None:
        """Send what is new; returns the error in a few words if that failed."""
        try:
            sync.update()
        except UserError as error:
            return str(error)
        except Exception as error:  # a tracker may fail in any way; training must not
            return short(error)
        return None


def open_tracker(
    run_dir: Path,
    *,
    experiment: str,
    run_name: str,
    tags: Mapping[str, str],
    command: str = "",
    description: str = "",
    data: Iterable[DataUse] = (),
    system: bool = False,
) -> MlflowTracker:
    """A tracker of the run in ``run_dir``; an earlier MLflow run of that folder is continued.

    Args:
        run_dir: the run folder; holds the journal and ``mlflow.json``.
        experiment: MLflow experiment, one per task (``sa3d/pretrain``).
        run_name: names what differs from other runs, not the time.
        tags: the run's own, such as task, variant, seed, fingerprint, data (the data
            set's name), start. Lineage tags (commit, data hash, host, flow run) are added here.
        command: what makes this run, as a person would type it; MLflow's column "Source".
        description: what the run is, in words; at the top of its page.
        data: what it reads; MLflow's column "Dataset".
        system: record how busy the machine is, too.
    """
    disable_telemetry()
    journal = Journal(run_dir)
    journal.entry("run", experiment=experiment, run_name=run_name, id=journal.id)
    own = {key: str(value) for key, value in tags.items()}
    own |= {JOURNAL: journal.id, "process": identity(os.getpid()) or "", "folder": shown(run_dir)}
    if description:
        own["mlflow.note.content"] = description
    journal.tags(own | lineage.tags(own.get("data")) | lineage.source(command))
    for use in data:
        journal.entry("input", **use.as_entry())
    sync = None if offline() else MlflowSync(run_dir, tracking_uri())
    return MlflowTracker(journal, sync, system=system, left=LEFT_TO_FLOW in os.environ)


def _status_of(error: BaseException | None) -> Status:
    if error is None or (isinstance(error, SystemExit) and not error.code):
        return "FINISHED"
    if isinstance(error, KeyboardInterrupt) or (
        isinstance(error, SystemExit) and error.code in (130, 143)
    ):
        return "KILLED"
    return "FAILED"
