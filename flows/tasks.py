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

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, StateDetails
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Completed, Failed

from flows import settings
from flows.executors.base import Event
from flows.executors.child import Child, failure
from sa3d.config.experiment import ExperimentConfig
from sa3d.tracking import mlflow_store

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

    def wait(self) -> Event:
        """The event, once it has come."""
        self._come.wait()
        assert self._event is not None
        return self._event


def over(futures: Iterable[PrefectFuture[Any]]) -> list[State[Any]]:
    """Tasks that are over, for ``wait_for``, which makes them the edges of the graph.

    States that refer to the tasks, because futures would be asked how they ended: Prefect does
    not start a task after one that was cancelled, not even a task that says it is skipped.
    """
    return [
        Completed(data=True, state_details=StateDetails(task_run_id=future.task_run_id))
        for future in futures
    ]


@task(task_run_name="plan", cache_policy=NO_CACHE)
def plan(config: ExperimentConfig) -> settings.Settings:
    """Refuse at once whatever can be refused, before anything costs time."""
    found = settings.settle(config)
    if not mlflow_store.offline():
        mlflow_store.init_store()
    return found


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
    return Completed(name="Reused", message=f"result of {run_dir}")


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
    get_run_logger().info("on %s; log: %s", where, log)
    event = ending.wait()
    if event.kind == "finished":
        return Completed(message=event.text)
    if event.kind == "stopped":
        return Cancelled(message=event.text)
    return Failed(message=event.text)
