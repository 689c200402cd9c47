"""Runs of the deployment ``job/gpu``, as Prefect's API makes, shows and cancels them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeAlias
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import (
    FlowRun,
    State,
    StateType,
    TaskRunResult,
    WorkPoolStatus,
)
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Cancelling, Crashed, Pending
from prefect.tasks import Task

from flows import settings
from flows.executors.base import Job
from flows.marks import WORKER
from sa3d.errors import UserError

DEPLOYMENT: Final = "job/gpu"
POOL: Final = "gpu"
REUSED: Final = "Reused"
"""Name of the state of a run whose result was there."""
_TIMEOUT_SECONDS = 10.0
_PAGE = 200  # the most that the API answers at once
_AWAY = (408, 429, 500, 502, 503, 504)

Stage: TypeAlias = Literal[
    "scheduled",  # no worker has taken it
    "pending",  # a worker starts its process
    "running",
    "cancelling",
    "completed",
    "failed",
    "cancelled",
    "crashed",  # its process is gone
    "deleted",
]
_STAGES: Final[dict[StateType, Stage]] = {
    StateType.SCHEDULED: "scheduled",
    StateType.PAUSED: "scheduled",
    StateType.PENDING: "pending",
    StateType.RUNNING: "running",
    StateType.CANCELLING: "cancelling",
    StateType.COMPLETED: "completed",
    StateType.FAILED: "failed",
    StateType.CANCELLED: "cancelled",
    StateType.CRASHED: "crashed",
}


class ServerAwayError(Exception):
    """Prefect's server does not answer now; the same may be asked again."""


@dataclass(frozen=True)
class RunState:
    """Where a run stands.

    Attributes:
        stage: of its life.
        text: what Prefect says of its state.
        worker: the worker that makes it, once it runs.
        reused: it is completed, but made nothing: the result was there.
    """

    stage: Stage
    text: str = ""
    worker: str = ""
    reused: bool = False


class RemoteRuns(Protocol):
    """What :class:`~flows.executors.workers.WorkersExecutor` needs of Prefect.

    Every method may raise :class:`ServerAwayError`.
    """

    def create(self, job: Job, attempt: int) -> UUID:
        """Make a run; asked again with the same attempt, the same run.

        Raises:
            UserError: there is no deployment to make it of.
        """

    def states(self, runs: Collection[UUID]) -> dict[UUID, RunState]:
        """Where each of the runs stands."""

    def cancel(self, run: UUID) -> None:
        """Have a run end; it may save first."""

    def give_up(self, run: UUID, why: str) -> None:
        """Mark a run that will not end by itself as crashed."""

    def polled(self) -> bool:
        """Whether some worker asks for runs."""


class PrefectRuns(RemoteRuns):
    """Runs on the server at ``PREFECT_API_URL``.

    Args:
        parent: the flow run on whose page they are shown.
        device: what they compute on.
        queue: of the work pool.
    """

    def __init__(self, parent: Any, device: str, queue: str) -> None:
        self._parent = UUID(str(parent))
        self._device = device
        self._queue = queue
        self._deployment: UUID | None = None

    def create(self, job: Job, attempt: int) -> UUID:
        """See :class:`RemoteRuns`."""
        with _client() as client:
            if self._deployment is None:
                self._deployment = _deployment(client)
            box = client.create_task_run(
                # the task stands for the run in the graph of its parent; its key is its name, so
                # asking twice makes one
                task=Task(name="job", fn=lambda: None),
                flow_run_id=self._parent,
                dynamic_key=job.name,
                name=job.name,
                state=Pending(),
                task_inputs={"wait_for": [TaskRunResult(id=each) for each in job.after]},
            )
            made = client.create_flow_run_from_deployment(
                self._deployment,
                parameters=self._parameters(job),
                name=job.name,
                parent_task_run_id=box.id,
                work_queue_name=self._queue,
                idempotency_key=f"{self._parent}/{job.name}/{attempt}",
            )
        return made.id

    def states(self, runs: Collection[UUID]) -> dict[UUID, RunState]:
        """See :class:`RemoteRuns`."""
        wanted, found = list(runs), dict.fromkeys(runs, RunState("deleted"))
        with _client() as client:
            for begin in range(0, len(wanted), _PAGE):
                some = FlowRunFilter(id=FlowRunFilterId(any_=wanted[begin : begin + _PAGE]))
                answer = client.read_flow_runs(flow_run_filter=some, limit=_PAGE)
                found |= {run.id: _state(run) for run in answer}
        return found

    def cancel(self, run: UUID) -> None:
        """See :class:`RemoteRuns`."""
        self._set(run, Cancelling(message="the flow that wants it was stopped"), force=False)

    def give_up(self, run: UUID, why: str) -> None:
        """See :class:`RemoteRuns`."""
        self._set(run, Crashed(message=why), force=True)

    def polled(self) -> bool:
        """See :class:`RemoteRuns`."""
        with _client() as client:
            return client.read_work_pool(POOL).status is not WorkPoolStatus.NOT_READY

    def _set(self, run: UUID, state: State[Any], *, force: bool) -> None:
        with _client() as client:
            try:
                client.set_flow_run_state(run, state, force=force)
            except ObjectNotFound:
                return  # it was deleted: nothing is left to end

    def _parameters(self, job: Job) -> dict[str, Any]:
        begin = len(settings.CHILD)
        assert list(job.command[:begin]) == settings.CHILD, "a worker runs `sa3d` and nothing else"
        return {
            "name": job.name,
            "arguments": list(job.command[begin:]),
            "folder": str(job.folder),
            "fingerprint": job.fingerprint,
            "device": self._device,
            "whole": job.whole,
            "hours": job.hours,
            "env": dict(job.env),
        }


@contextmanager
def _client() -> Iterator[SyncPrefectClient]:
    """A client that asks once: its own retries would keep the flow from reading signals."""
    try:
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client({"timeout": _TIMEOUT_SECONDS}, sync_client=True) as client,
        ):
            yield client
    except httpx.HTTPStatusError as error:
        if error.response.status_code in _AWAY:
            raise ServerAwayError(str(error)) from error
        raise
    except httpx.TransportError as error:
        raise ServerAwayError(f"{type(error).__name__}: {error}") from error


def _deployment(client: SyncPrefectClient) -> UUID:
    try:
        return client.read_deployment_by_name(DEPLOYMENT).id
    except ObjectNotFound:
        raise UserError(
            f"{PREFECT_API_URL.value()} has no deployment {DEPLOYMENT}; make it with "
            "`python -m flows.stack up`, or run here: --where here"
        ) from None


def _state(run: FlowRun) -> RunState:
    assert run.state is not None, "the API shows every run with its state"
    return RunState(
        _STAGES[run.state.type],
        run.state.message or "",
        str(run.labels.get(WORKER, "")),
        reused=run.state.name == REUSED,
    )
