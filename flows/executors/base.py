"""What every executor offers: jobs in, events out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from uuid import UUID

# `waiting` and `started` may come again with other words; the last four end a job
EventKind = Literal["waiting", "started", "finished", "reused", "failed", "stopped"]


@dataclass(frozen=True)
class Job:
    """A run that is to be made, or found made.

    Attributes:
        name: of the node.
        command: words of the ``sa3d`` command, without what it computes on.
        folder: the run's folder, on storage that flow and child share.
        fingerprint: of the run; its result is known by it.
        priority: jobs of lower numbers go first.
        whole: it gains from every core there is.
        env: variables beside those of the executor.
        hours: the command is asked to stop after so many, and has then failed; None: no limit.
        after: ids of what Prefect shows of the jobs that it comes after; see
            :meth:`Executor.shown`.
    """

    name: str
    command: Sequence[str]
    folder: Path
    fingerprint: str
    priority: int = 0
    whole: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
    hours: float | None = None
    after: Sequence[UUID] = ()


@dataclass(frozen=True)
class Event:
    """Something happened to a job.

    Attributes:
        name: of the job.
        kind: what.
        text: what it waits for, where it runs, or why it ended so; empty where it ended well.
    """

    name: str
    kind: EventKind
    text: str = ""


class Executor(ABC):
    """Makes runs, each once, wherever that is.

    Every job that was submitted ends in exactly one event ``finished``, ``reused``, ``failed``
    or ``stopped``. ``finished`` says that its command ended well, ``reused`` that the result was
    in its folder. A run that another process makes meanwhile is waited for and reused, without
    holding anything that it could compute on. All methods are called from one thread.
    """

    @abstractmethod
    def submit(self, job: Job) -> None:
        """Take a job over; returns at once."""

    @abstractmethod
    def poll(self, seconds: float) -> list[Event]:
        """What has happened, in order; waits up to ``seconds`` for the first event."""

    def shown(self, name: str) -> UUID | None:
        """The id of what Prefect shows of a job on the page of the flow run.

        None: this executor has Prefect show nothing, so the caller does.
        """
        return None

    @abstractmethod
    def stop(self) -> None:
        """End all jobs: those that run may save first. A second call does not let them."""

    @abstractmethod
    def close(self) -> None:
        """Leave nothing running, and free everything. Jobs that are not over are stopped."""
