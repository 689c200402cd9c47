"""What Prefect does when a flow run is cancelled or has crashed."""

from __future__ import annotations

from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, State
from prefect.flows import Flow
from prefect.states import Cancelling


def cancel_children(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Cancel, at once, every run that a flow run has started and that has not ended.

    A flow that was asked to stop does so itself. This is for one that was killed: Prefect's own
    clean-up comes half a minute later.
    """
    unfinished = FlowRunFilterState(type=FlowRunFilterStateType(not_any_=list(TERMINAL_STATES)))
    children = FlowRunFilter(
        parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[flow_run.id]), state=unfinished
    )
    with get_client(sync_client=True) as client:
        for child in client.read_flow_runs(flow_run_filter=children):
            why = f"its parent {flow_run.name} is {state.name.lower() if state.name else 'over'}"
            client.set_flow_run_state(child.id, Cancelling(message=why))
