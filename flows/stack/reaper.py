"""Finds flow runs whose process on this machine is gone, and says so in Prefect.

A process that is killed cannot report its end. Prefect would show its run as running for ever, or
until the automation misses its heartbeat; here the process itself is looked for.
"""

from __future__ import annotations

import socket

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelled, Crashed

from flows.marks import HOST, PROCESS
from sa3d.utils.processes import lives

_PAGE = 200
_UNENDED = [StateType.RUNNING, StateType.CANCELLING]


def reap() -> list[str]:
    """Mark the runs of this host whose process is gone, and their tasks; returns their names.

    A run that was being cancelled is cancelled, another has crashed.
    """
    running = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_UNENDED)))
    found: list[FlowRun] = []
    with get_client(sync_client=True) as client:
        while len(page := _page(client, running, len(found))) > 0:
            found += page
        dead = [run for run in found if _is_dead(run)]
        for run in dead:
            _end(client, run)
    return [run.name for run in dead]


def _page(client: SyncPrefectClient, wanted: FlowRunFilter, begin: int) -> list[FlowRun]:
    return client.read_flow_runs(
        flow_run_filter=wanted, limit=_PAGE, offset=begin, sort=FlowRunSort.ID_DESC
    )


def _is_dead(run: FlowRun) -> bool:
    labels = run.labels
    return labels.get(HOST) == socket.gethostname() and not lives(str(labels.get(PROCESS, "")))


def _end(client: SyncPrefectClient, run: FlowRun) -> None:
    why = f"its process ({run.labels[PROCESS]}) is gone"
    running = TaskRunFilter(
        state=TaskRunFilterState(type=TaskRunFilterStateType(any_=[StateType.RUNNING]))
    )
    owner = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
    for task in client.read_task_runs(flow_run_filter=owner, task_run_filter=running):
        client.set_task_run_state(task.id, Crashed(message=why), force=True)
    cancelling = run.state is not None and run.state.type == StateType.CANCELLING
    ended: State[None] = Cancelled(message=why) if cancelling else Crashed(message=why)
    client.set_flow_run_state(run.id, ended, force=True)
