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


class Sender:
    """Sends the journals of runs to MLflow, in a thread of its own, in the order they are given.

    What it cannot send it says, once; nothing else of the flow depends on it.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="mlflow-sender")
        self._sending: list[Future[None]] = []
        self._gone: str | None = None  # why MLflow does not answer
        self._unsent = 0

    def send(self, folder: Path) -> None:
        """Send what MLflow lacks of the run in ``folder``; returns at once."""
        self._sending.append(self._pool.submit(self._send, folder))

    def close(self) -> None:
        """Wait until everything was sent, or say what was not."""
        self._pool.shutdown()
        for each in self._sending:
            each.result()
        if self._gone is not None:
            say(
                f"MLflow lacks {self._unsent} runs of this flow ({self._gone}); all of them are in "
                f"{paths.shown(paths.work())}. Send them later: sa3d sync"
            )

    def _send(self, folder: Path) -> None:
        if not (folder / FILE).is_file():
            return  # it failed before it recorded anything
        if self._gone is not None:  # its time-outs are long: once is enough
            self._unsent += 1
            return
        try:
            MlflowSync(folder, mlflow_store.tracking_uri()).update()
        except UserError as error:
            say(f"MLflow lacks part of {paths.shown(folder)}: {error}")
        except Exception as error:  # MLflow's client may fail in any way; the flow must not
            self._unsent += 1
            self._gone = mlflow_store.short(error)
