"""Runs in MLflow: journal first, server second, in the background.

A task records into :class:`sa3d.tracking.journal.Journal`; a thread here reads that file and ships
what the server has not seen, in batches, by explicit run id. ``mlflow.json`` beside the
journal is the cursor: which server, which run, and up to which step of which metric. A
server that is away costs a line on stderr and nothing else; ``sa3d sync DIR`` closes the
gap later. The only module that logs to MLflow; ``sa3d.tracking.model_registry`` registers models.
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
from sa3d.tracking.mlflow_sync import Shipper
from sa3d.utils.telemetry import quiet

_PERIOD = 10.0  # seconds between batches; a batch costs the server about as much as a point
_LONGEST = 120.0  # seconds between attempts at a server that is away


class Tracked:
    """A :class:`sa3d.tracking.journal.Tracker`: a journal, and a thread that ships it.

    As a context manager it closes with the status that the way out implies.
    """

    def __init__(self, journal: Journal, shipper: Shipper) -> None:
        self._journal = journal
        self._shipper = shipper
        self._run_dir = journal.path.parent
        self._changed = threading.Event()
        self._ending = threading.Event()
        self._complained = False
        self._thread = threading.Thread(target=self._work, name="mlflow-shipper", daemon=True)
        self._thread.start()

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """See :class:`sa3d.tracking.journal.Tracker`."""
        self._journal.metrics(values, step)

    def params(self, values: Mapping[str, Any]) -> None:
        """See :class:`sa3d.tracking.journal.Tracker`."""
        self._journal.params(values)

    def tags(self, values: Mapping[str, str]) -> None:
        """See :class:`sa3d.tracking.journal.Tracker`."""
        self._journal.tags(values)

    def artifact(self, path: Path, folder: str = "") -> None:
        """See :class:`sa3d.tracking.journal.Tracker`."""
        self._journal.artifact(path, folder)

    def resume(self, step: int) -> None:
        """See :class:`sa3d.tracking.journal.Tracker`."""
        with self._shipper.lock:
            self._journal.resume(step)
            self._shipper.rewind()

    def flush(self) -> None:
        """See :class:`sa3d.tracking.journal.Tracker`."""
        self._journal.flush()
        self._changed.set()

    def close(self, status: Status) -> None:
        """See :class:`sa3d.tracking.journal.Tracker`. Ships the rest, or says how to later."""
        self._journal.close(status)
        self._ending.set()
        self._changed.set()
        self._thread.join()
        failed = self._attempt()
        if failed is not None:
            _say(
                f"MLflow at {self._shipper.uri} lacks part of this run ({failed}); "
                f"all of it is in {self._run_dir / FILE}. When the server is back: "
                f"sa3d sync {shlex.quote(str(self._run_dir))}"
            )

    def __enter__(self) -> Tracked:
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
                return  # close() ships the rest in its own thread
            failed = self._attempt()
            pause = min(_LONGEST, pause * 2) if failed else _PERIOD
            if failed and not self._complained:
                self._complained = True
                _say(f"MLflow at {self._shipper.uri} does not answer ({failed}); going on without")

    def _attempt(self) -> str | None:
        """Ship what there is; the reason when the server would not have it."""
        try:
            self._shipper.ship()
        except Exception as error:  # a tracker may fail in any way; training must not
            return short(error)
        return None


def open_tracker(
    run_dir: Path,
    *,
    experiment: str = "sa3d/pretrain",
    run_name: str,
    tags: Mapping[str, str],
) -> Tracked:
    """A tracker of the run in ``run_dir``; an earlier MLflow run of that folder goes on.

    Args:
        run_dir: the run folder; the journal and the cursor lie there.
        experiment: MLflow experiment, one flat one a stage (``sa3d/pretrain``).
        run_name: what differs from other runs, not the time.
        tags: the run's own, such as stage, arm, seed, fingerprint, data (the data set's
            name), encoder. Lineage tags (commit, data hash, host, flow run) are added here.
    """
    quiet()
    journal = Journal(run_dir)
    journal.entry("run", experiment=experiment, run_name=run_name)
    own = {key: str(value) for key, value in tags.items()}
    journal.tags(own | lineage.tags(own.get("data")) | {"process": _process()})
    return Tracked(journal, Shipper(run_dir, tracking_uri()))


def sync(run_dir: Path) -> int:
    """Ship everything in the run folder's journal that the server lacks.

    Returns:
        Number of metric points sent.

    Raises:
        UserError: no journal there, or the server does not answer.
    """
    if not (run_dir / FILE).is_file():
        raise UserError(f"no {FILE} in {run_dir}: give a run folder, as in work/pretrain-...")
    uri = tracking_uri()
    try:
        return Shipper(run_dir, uri).ship()
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
