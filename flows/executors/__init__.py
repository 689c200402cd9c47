"""Where the runs of a plan are made: one module for each way, behind one interface."""

from __future__ import annotations

from typing import Literal

from flows.executors.base import Executor

Where = Literal["here", "workers"]
"""``here``: child processes of the flow. ``workers``: runs of the deployment ``job/gpu``."""
Queue = Literal["default", "high"]
"""Of every work pool; runs in ``high`` are taken first."""


def executor(where: Where, device: str, width: int, queue: Queue = "default") -> Executor:
    """The executor that makes the runs of the current flow run.

    Args:
        where: see :data:`Where`.
        device: what they compute on: ``auto``, ``cpu`` or ``cuda``.
        width: most runs that could be made side by side, where they share this machine's cores.
        queue: where runs for workers wait.

    Raises:
        UserError: ``cuda`` without a GPU, here.
    """
    if where == "workers":
        from prefect import runtime

        from flows.executors.remote_runs import PrefectRuns
        from flows.executors.workers import WorkersExecutor

        return WorkersExecutor(PrefectRuns(runtime.flow_run.id, device, queue))
    from flows.executors.local import LocalExecutor
    from flows.resources import Resources

    return LocalExecutor(Resources(device, width))
