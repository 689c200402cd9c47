"""Runs as child processes of the flow, on the GPUs or cores of this machine."""

from __future__ import annotations

import bisect
import time
from collections.abc import Iterator
from dataclasses import dataclass

from flows import logs
from flows.executors.base import Event, Executor, Job
from flows.executors.child import Child, failure, too_long, was_stopped
from flows.executors.claim import Claim
from flows.resources import Allocation, Resources
from sa3d.errors import UserError
from sa3d.runs.fingerprint import PLANNED, finished
from sa3d.utils.paths import shown

_LOOK_SECONDS = 0.1  # between looks at the children and at the locks of other processes


@dataclass
class _Waiting:
    """A job that has not started; ``claimed``: no other flow will make it meanwhile."""

    job: Job
    claim: Claim
    claimed: bool = False
    told: str = ""


@dataclass
class _Running:
    """A job's child, and what it holds."""

    job: Job
    claim: Claim
    child: Child
    allocation: Allocation


class LocalExecutor(Executor):
    """Starts jobs by priority, as soon as there is something to compute on.

    Call it from one thread that lives as long as the children: they end with it.

    Args:
        resources: what the children may compute on.
    """

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._waiting: list[_Waiting] = []
        self._running: list[_Running] = []
        self._stopping = False

    def submit(self, job: Job) -> None:
        """See :class:`Executor`."""
        waiting = _Waiting(job, Claim(job.folder))
        bisect.insort(self._waiting, waiting, key=lambda each: each.job.priority)

    def poll(self, seconds: float) -> list[Event]:
        """See :class:`Executor`."""
        end = time.monotonic() + seconds
        while True:
            # what ended is told before more is started: it may set free what is more important
            found = list(self._ended()) or list(self._started())
            left = end - time.monotonic()
            if found or left <= 0:
                return found
            time.sleep(min(_LOOK_SECONDS, left))

    def stop(self) -> None:
        """See :class:`Executor`."""
        for running in self._running:
            if self._stopping:
                running.child.kill()
            else:
                running.child.stop()
        self._stopping = True

    def close(self) -> None:
        """See :class:`Executor`."""
        if not self._stopping:
            self.stop()
        while self._running or self._waiting:
            self.poll(_LOOK_SECONDS)
        self._resources.abandon()

    def _ended(self) -> Iterator[Event]:
        """Events of the children that have ended."""
        for running in list(self._running):
            code = running.child.poll()
            if code is None:
                continue
            self._running.remove(running)
            running.allocation.release()
            running.claim.release()
            yield _ending(running, code)

    def _started(self) -> Iterator[Event]:
        """Events of the jobs that began, or need not begin."""
        if self._stopping:
            self._resources.abandon()
        for waiting in list(self._waiting):
            try:
                event = self._advanced(waiting)
            except UserError as error:
                event = Event(waiting.job.name, "failed", str(error))
            if event is not None and event.kind != "waiting":
                self._waiting.remove(waiting)
                if event.kind != "started":
                    waiting.claim.release()
            if event is not None:
                yield event
            elif waiting.claimed:
                return  # nothing to compute on: what comes later must not overtake it
        if not any(waiting.claimed for waiting in self._waiting):
            self._resources.abandon()

    def _advanced(self, waiting: _Waiting) -> Event | None:
        """Move a job on: what came of it, or None if it has to wait as before."""
        job = waiting.job
        if self._stopping:
            return Event(job.name, "stopped", "not started: the flow was stopped")
        if finished(job.folder, job.fingerprint) is not None:
            return Event(job.name, "reused", shown(job.folder))
        if not waiting.claimed:
            if not waiting.claim.take():
                return _once(waiting, f"{waiting.claim.holder()} is making this run")
            waiting.claimed = True
            if finished(job.folder, job.fingerprint) is not None:  # since the look above
                return Event(job.name, "reused", shown(job.folder))
        allocation = self._resources.allocate(job.whole)
        if allocation is None:
            return None
        return self._start(waiting, allocation)

    def _start(self, waiting: _Waiting, allocation: Allocation) -> Event:
        job = waiting.job
        words = [*job.command, "--threads", str(allocation.threads), "--device", allocation.device]
        try:
            env = {**job.env, **allocation.env, PLANNED: job.fingerprint}
            child = Child(words, job.folder / logs.FILE, env, job.hours)
        except OSError as error:
            allocation.release()
            return Event(job.name, "failed", f"cannot start: {error}")
        self._running.append(_Running(job, waiting.claim, child, allocation))
        return Event(job.name, "started", allocation.name)


def _once(waiting: _Waiting, text: str) -> Event | None:
    """An event for words that were not said yet."""
    if text == waiting.told:
        return None
    waiting.told = text
    return Event(waiting.job.name, "waiting", text)


def _ending(running: _Running, code: int) -> Event:
    job, log = running.job, running.child.log
    if running.child.overdue and code != 0:
        assert job.hours is not None, "without a limit nothing is overdue"
        return Event(job.name, "failed", too_long(job.hours, log))
    if was_stopped(code) or (code and running.child.stopping):
        return Event(job.name, "stopped", f"stopped (exit status {code}; log: {shown(log)})")
    if code != 0:
        return Event(job.name, "failed", failure(code, log))
    return Event(job.name, "finished")
