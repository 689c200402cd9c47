"""Runs made by Prefect's workers, on this machine or others that share its files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from flows import logs
from flows.executors.base import Event, Executor, Job
from flows.executors.remote_runs import POOL, RemoteRuns, RunState, ServerAwayError
from sa3d.errors import UserError
from sa3d.runs.fingerprint import finished
from sa3d.utils.paths import shown

ATTEMPTS: Final = 2  # a run whose worker died is made once more
_LOOK_SECONDS = 1.0  # between questions to the server
_SLEEP_SECONDS = 0.1
_POOL_SECONDS = 5.0  # between questions whether there are workers
_BEGIN_SECONDS = 300.0  # from a worker taking a run to its process saying so; then it is lost
_CLOSE_SECONDS = 60.0  # that close() waits for runs to end


@dataclass
class _Tracked:
    """A job and its newest run; ``begun``: its start was told; ``since``: when it was last seen
    to move on."""

    job: Job
    run: UUID | None = None
    attempt: int = 1
    begun: bool = False
    told: str = ""
    stage: str = ""
    since: float = 0.0
    cancelled: bool = False


class WorkersExecutor(Executor):
    """Makes each job a run of a deployment, and follows it by Prefect's API.

    A server that does not answer is asked again for as long as it takes: the runs go on without
    it. A run that crashed, which means that its process or its worker died, is made once more, and
    goes on from its checkpoint.

    Args:
        runs: makes and shows runs.
    """

    def __init__(self, runs: RemoteRuns) -> None:
        self._runs = runs
        self._tracked: dict[str, _Tracked] = {}
        self._boxes: dict[str, UUID] = {}
        self._stopping = False
        self._abandoned = False
        self._next_look = 0.0
        self._next_pool_look = 0.0
        self._polled = True

    def submit(self, job: Job) -> None:
        """See :class:`Executor`."""
        self._tracked[job.name] = _Tracked(job)

    def shown(self, name: str) -> UUID | None:
        """See :class:`Executor`."""
        return self._boxes.get(name)

    def poll(self, seconds: float) -> list[Event]:
        """See :class:`Executor`."""
        end = time.monotonic() + seconds
        while True:
            found = []
            if time.monotonic() >= self._next_look:
                found = list(self._looked())
                self._next_look = time.monotonic() + _LOOK_SECONDS
            left = end - time.monotonic()
            if found or left <= 0:
                return found
            time.sleep(min(_SLEEP_SECONDS, left))

    def stop(self) -> None:
        """See :class:`Executor`. A second call does not wait for the runs to save."""
        self._abandoned = self._stopping
        self._stopping = True
        self._next_look = 0.0

    def close(self) -> None:
        """See :class:`Executor`. Runs that do not end in time, for instance because the server is
        away, are left to their workers, which make them to their end."""
        if not self._stopping:
            self.stop()
        end = time.monotonic() + _CLOSE_SECONDS
        while self._tracked and time.monotonic() < end:
            self.poll(_SLEEP_SECONDS)

    def _looked(self) -> Iterator[Event]:
        """What has happened since the last look; events of ended jobs are the last of theirs."""
        try:
            for tracked in list(self._tracked.values()):
                event = self._advanced(tracked)
                if event is not None:
                    yield self._noted(event)
            yield from self._followed()
        except ServerAwayError as error:
            yield from self._waiting(f"Prefect's server does not answer ({error})")

    def _advanced(self, tracked: _Tracked) -> Event | None:
        """Have a run made or cancelled, where that is to be done."""
        job = tracked.job
        if self._abandoned:
            return Event(job.name, "stopped", "its worker was not waited for")
        if tracked.run is not None:
            if self._stopping and not tracked.cancelled:
                self._runs.cancel(tracked.run)
                tracked.cancelled = True
            return None
        if self._stopping:
            return Event(job.name, "stopped", "not started: the flow was stopped")
        try:
            if finished(job.folder, job.fingerprint) is not None:
                return Event(job.name, "reused", shown(job.folder))
            tracked.run = self._runs.create(job, tracked.attempt)
        except UserError as error:
            return Event(job.name, "failed", str(error))
        self._boxes[job.name] = tracked.run
        tracked.since = time.monotonic()
        return None

    def _followed(self) -> Iterator[Event]:
        """Events of the runs, as the server shows them now."""
        made = {t.run: t for t in self._tracked.values() if t.run is not None}
        if not made:
            return
        states = self._runs.states(made)
        if any(state.stage == "scheduled" for state in states.values()):
            self._look_for_workers()
        for run, state in states.items():
            tracked = made[run]
            if state.stage != tracked.stage:
                tracked.stage, tracked.since = state.stage, time.monotonic()
            for event in self._events(tracked, state):
                yield self._noted(event)

    def _look_for_workers(self) -> None:
        if time.monotonic() >= self._next_pool_look:
            self._polled = self._runs.polled()
            self._next_pool_look = time.monotonic() + _POOL_SECONDS

    def _events(self, tracked: _Tracked, state: RunState) -> list[Event]:
        """What is new in the state of a run, for its job."""
        name, log = tracked.job.name, shown(tracked.job.folder / logs.FILE)
        begun = [] if tracked.begun and not tracked.told else [Event(name, "started", _at(state))]
        match state.stage:
            case "scheduled" if not self._polled:
                return _once(tracked, f"no worker is polling pool {POOL}; start one")
            case "scheduled":
                return _once(tracked, f"for a worker of pool {POOL}")
            case "pending":
                if time.monotonic() < tracked.since + _BEGIN_SECONDS:
                    return _once(tracked, "a worker starts it")
                assert tracked.run is not None, "it has a state"
                self._runs.give_up(tracked.run, "its worker took it and never began")
                return []  # it is a crash, seen at the next look
            case "running":
                tracked.begun, tracked.told = True, ""
                return begun
            case "cancelling":
                return []
            case "completed" if state.reused:
                return [Event(name, "reused", state.text)]
            case "completed":
                return [*begun, Event(name, "finished", state.text)]
            case "cancelled":
                return [
                    Event(name, "stopped", f"stopped ({state.text or 'cancelled'}; log: {log})")
                ]
            case "crashed":
                return [self._crashed(tracked, state.text)]
            case "deleted":
                return [Event(name, "failed", "its run was deleted in Prefect")]
            case "failed":
                return [Event(name, "failed", state.text or f"see {log}")]

    def _crashed(self, tracked: _Tracked, why: str) -> Event:
        name = tracked.job.name
        if self._stopping:
            return Event(name, "stopped", f"its worker died while it was stopped ({why})")
        if tracked.attempt >= ATTEMPTS:
            log = shown(tracked.job.folder / logs.FILE)
            return Event(name, "failed", f"its process died {ATTEMPTS} times ({why}; log: {log})")
        tracked.attempt += 1
        tracked.run, tracked.stage = None, ""
        tracked.told = f"its process died ({why}); it is made once more"
        return Event(name, "waiting", tracked.told)

    def _waiting(self, why: str) -> Iterator[Event]:
        """Tell all that does not run that it waits."""
        for tracked in self._tracked.values():
            if not tracked.begun or tracked.told:
                yield from _once(tracked, why)

    def _noted(self, event: Event) -> Event:
        """Forget a job that is over."""
        if event.kind not in ("waiting", "started"):
            del self._tracked[event.name]
        return event


def _once(tracked: _Tracked, text: str) -> list[Event]:
    """An event for words that were not said yet."""
    if text == tracked.told:
        return []
    tracked.told = text
    return [Event(tracked.job.name, "waiting", text)]


def _at(state: RunState) -> str:
    return f"worker {state.worker}" if state.worker else f"a worker of pool {POOL}"
