"""The tasks that Prefect shows, one for each node, and for planning and reporting.

They compute nothing: a task of a run begins and ends with it, wherever an executor makes it.
Submitted with ``wait_for`` the tasks of the nodes that a node needs, which are over by then, they
become a graph with edges on the page of the flow run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, StateDetails
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Completed, Failed

from flows import logs, settings
from flows.executors.base import Event
from flows.executors.child import Child, failure
from flows.executors.remote_runs import REUSED
from sa3d.utils import paths

_NAMED: Final[dict[str, Any]] = {"task_run_name": "{name}", "cache_policy": NO_CACHE}


class Ending:
    """The last event of a job, for the task that shows it."""

    def __init__(self) -> None:
        self._come = threading.Event()
        self._event: Event | None = None

    def tell(self, event: Event) -> None:
        """The job is over."""
        self._event = event
        self._come.set()

    def wait(self, seconds: float) -> Event | None:
        """The event, once it has come; None: it has not in that time."""
        self._come.wait(seconds)
        return self._event


def over(boxes: Iterable[UUID]) -> list[State[Any]]:
    """Boxes of the graph that are over, for ``wait_for``, which draws edges from them.

    States that refer to the boxes, because futures would be asked how they ended: Prefect does
    not start a task after one that was cancelled, not even a task that says it is skipped.

    Args:
        boxes: ids of task runs, or of flow runs that other flow runs made.
    """
    return [Completed(data=True, state_details=StateDetails(task_run_id=box)) for box in boxes]


@task(**_NAMED)
def pretrain(name: str, where: str, log: str, ending: Ending) -> State[None]:
    """A pre-training, from its start to its end."""
    return _followed(where, log, ending)


@task(**_NAMED)
def evaluate(name: str, where: str, log: str, ending: Ending) -> State[None]:
    """A downstream task, from its start to its end."""
    return _followed(where, log, ending)


@task(**_NAMED)
def register(
    name: str, run_dir: str, experiment: str, variant: str, candidate: bool
) -> dict[str, str]:
    """Make a version of an exported model in MLflow's registry."""
    from sa3d.tracking import model_registry

    return model_registry.register(Path(run_dir), experiment, variant, candidate=candidate)


@task(**_NAMED)
def reuse(name: str, run_dir: str) -> State[None]:
    """Nothing was run: the result was there."""
    return Completed(name=REUSED, message=f"result of {run_dir}")


@task(**_NAMED)
def skip(name: str, why: str) -> State[None]:
    """Nothing was run: something that it needs was not done, or is absent."""
    return Cancelled(name="Skipped", message=why)


@task(**_NAMED)
def refuse(name: str, why: str) -> State[None]:
    """Nothing was run: it failed before its start."""
    return Failed(message=why)


@task(task_run_name="report", cache_policy=NO_CACHE)
def report(results: str, log: str) -> State[None]:
    """Write the report beside ``results.json``."""
    words = [*settings.CHILD, "report", results, "--out", str(Path(results).parent)]
    child = Child(words, Path(log), {"CUDA_VISIBLE_DEVICES": ""})
    while (code := child.poll()) is None:
        time.sleep(0.1)
    if code != 0:
        return Failed(message=failure(code, child.log))
    return Completed(message=f"beside {results}")


def _followed(where: str, log: str, ending: Ending) -> State[None]:
    logger, said = get_run_logger(), ""
    logger.info("on %s; log: %s", where, log)
    while (event := ending.wait(logs.PROGRESS_SECONDS)) is None:
        line = logs.last_line(paths.root() / log)
        if line and line != said:
            said = line
            logger.info("%s", line)
    if event.kind == "finished":
        return Completed(message=event.text)
    if event.kind == "stopped":
        return Cancelled(message=event.text)
    return Failed(message=event.text)
