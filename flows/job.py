"""The flow ``job``: one run of a plan, made on the worker that takes it.

It uses the executor of flows that run their children themselves, so that a run is claimed, reused,
resumed and given something to compute on in one way, wherever it is made.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Completed, Failed
from pydantic import Field

from flows import logs, settings
from flows.endings import NotCompleted, say_once
from flows.executors.base import Event, Job
from flows.executors.local import LocalExecutor
from flows.executors.remote_runs import REUSED
from flows.marks import mark
from flows.resources import SIDE_BY_SIDE, Resources
from flows.signals import StopRequests
from sa3d.errors import UserError

say_once()

_TICK = 0.5


@flow(name="job", flow_run_name="{name}")
def job(
    name: Annotated[str, Field(description="of the run")],
    arguments: Annotated[list[str], Field(description="of the command sa3d, without a device")],
    folder: Annotated[Path, Field(description="of the run, on storage that is shared")],
    fingerprint: Annotated[str, Field(description="of the run; its result is known by it")],
    device: Annotated[
        Literal["auto", "cpu", "cuda"], Field(description="what it computes on")
    ] = "auto",
    whole: Annotated[bool, Field(description="it gains from every core there is")] = False,
    hours: Annotated[
        float | None, Field(gt=0, description="the longest that it may take; no limit if empty")
    ] = None,
    env: Annotated[dict[str, str], Field(description="variables for the command")] = {},  # noqa: B006
) -> State[Any]:
    """Make one run of an experiment. Made by the flow of the experiment, not by people."""
    mark()
    many = int(os.environ.get(SIDE_BY_SIDE, "1"))
    one = Job(
        name, [*settings.CHILD, *arguments], folder, fingerprint, whole=whole, env=env, hours=hours
    )
    requests = StopRequests()
    try:
        executor = LocalExecutor(Resources(device, many, gpu_workers=many))
    except UserError as error:
        return _state(Event(name, "failed", str(error)))
    with contextlib.closing(executor), requests.listen():
        executor.submit(one)
        return _state(_followed(executor, one, requests))


def _followed(executor: LocalExecutor, one: Job, requests: StopRequests) -> Event:
    """The last event of the job; the others, and its progress, are logged."""
    logger, log = get_run_logger(), one.folder / logs.FILE
    stops, said, next_look = 0, "", 0.0
    while True:
        while stops < requests.count:
            stops += 1
            logger.info("asked to stop: it may save first" if stops == 1 else "ended at once")
            executor.stop()
        for event in executor.poll(_TICK):
            if event.kind not in ("waiting", "started"):
                return event
            logger.info("%s: %s", event.kind, event.text)
            next_look = time.monotonic() + logs.PROGRESS_SECONDS
        if time.monotonic() >= next_look and (line := logs.last_line(log)) != said:
            said, next_look = line, time.monotonic() + logs.PROGRESS_SECONDS
            logger.info("%s", line)


def _state(event: Event) -> State[Any]:
    if event.kind == "reused":
        return Completed(name=REUSED, message=f"result of {event.text}")
    if event.kind == "finished":
        return Completed(message="finished")
    ended = NotCompleted(event.text, {})
    if event.kind == "stopped":
        return Cancelled(message=event.text, data=ended)
    return Failed(message=event.text, data=ended)
