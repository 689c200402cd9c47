"""Short runs in MLflow: sent by the flow, which has loaded MLflow already.

Loading MLflow and opening its store takes a process seconds. A run that is over before it has sent
anything leaves its journal to the flow, see :data:`sa3d.tracking.tracker.LEFT_TO_FLOW`; a flow has
many of them, few-shot learning alone one an episode.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from sa3d.errors import UserError
from sa3d.tracking import mlflow_store
from sa3d.tracking.journal import FILE
from sa3d.tracking.mlflow_sync import MlflowSync, say
from sa3d.utils import paths

_ENOUGH = 2  # failures in a row after which MLflow is taken to be away


class Sender:
    """Sends the journals of runs to MLflow, in a thread of its own, in the order they are given.

    What it cannot send it says, once; nothing else of the flow depends on it.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="mlflow-sender")
        self._sending: list[Future[None]] = []
        self._failed: list[Path] = []
        self._why = ""  # the last of them failed
        self._in_a_row = 0

    def send(self, folder: Path) -> None:
        """Send what MLflow lacks of the run in ``folder``; returns at once."""
        self._sending.append(self._pool.submit(self._send, folder))

    def close(self) -> None:
        """Wait until everything was sent, or say what was not."""
        self._pool.shutdown()
        for each in self._sending:
            each.result()
        again, self._failed = self._failed, []
        for folder in again:  # MLflow may have been busy
            self._send(folder)
        if self._failed:
            say(
                f"MLflow lacks {len(self._failed)} runs of this flow ({self._why}); all of them "
                f"are in {paths.shown(paths.work())}. Send them later: sa3d sync"
            )

    def _send(self, folder: Path) -> None:
        if not (folder / FILE).is_file():
            return  # it failed before it recorded anything
        if self._in_a_row >= _ENOUGH:  # MLflow's time-outs are long
            self._failed.append(folder)
            return
        try:
            MlflowSync(folder, mlflow_store.tracking_uri()).update()
        except UserError as error:
            say(f"MLflow lacks part of {paths.shown(folder)}: {error}")
        except Exception as error:  # MLflow's client may fail in any way; the flow must not
            self._failed.append(folder)
            self._why = mlflow_store.short(error)
            self._in_a_row += 1
            return
        self._in_a_row = 0
