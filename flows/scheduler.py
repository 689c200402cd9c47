"""Which node of a plan may start now, and what the end of one means for the others.

A state machine without processes, clocks or Prefect: it is told what happened, and asked what
follows. It notes what changes with every step and never looks through the whole plan, so that
bringing a plan to its end costs in proportion to its nodes and edges.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from flows.plan import Plan

State = Literal[
    "waiting",  # for nodes that it needs
    "queued",  # handed over to be run; for something to compute on, or for another process
    "running",
    "finished",
    "reused",  # its result was there
    "failed",
    "skipped",  # something that it needs was not done, or its data is absent
    "stopped",  # was asked to stop, or not started since the flow was
]
DONE: Final[tuple[State, ...]] = ("finished", "reused")
ENDED: Final[tuple[State, ...]] = (*DONE, "failed", "skipped", "stopped")
_BEFORE: Final[dict[State, tuple[State, ...]]] = {
    "queued": ("waiting",),
    "running": ("queued",),
    "finished": ("running",),
    "reused": ("queued", "running"),  # a worker may find the result only once it begins
    "failed": ("queued", "running"),
    "skipped": ("waiting",),
    "stopped": ("queued", "running"),
}


class Scheduler:
    """The states of all nodes of a plan.

    Args:
        plan: what is to be done.
    """

    def __init__(self, plan: Plan) -> None:
        self._needs = {node.name: node.needs for node in plan.nodes}
        self._places = plan.places
        self._dependents: dict[str, list[str]] = {name: [] for name in self._needs}
        for needed, name in plan.edges:
            self._dependents[needed].append(name)
        self._states: dict[str, State] = dict.fromkeys(self._needs, "waiting")
        self._undone = {name: len(needs) for name, needs in self._needs.items()}
        self._ready = {name for name, count in self._undone.items() if count == 0}
        self._left = len(self._states)  # nodes that have not ended

    @property
    def states(self) -> Mapping[str, State]:
        """The state of every node, in order of priority."""
        return MappingProxyType(self._states)

    @property
    def ended(self) -> bool:
        """Whether nothing will happen any more."""
        return self._left == 0

    def ready(self) -> list[str]:
        """The nodes that may be queued now, by priority: all that they need is done."""
        return sorted(self._ready, key=self._places.__getitem__)

    def queued(self, name: str) -> None:
        """A node of :meth:`ready` was handed over to be run."""
        if name not in self._ready:
            raise ValueError(f"{name} ({self._states[name]}) is not ready")
        self._move(name, "queued")

    def started(self, name: str) -> None:
        """A queued node began to run."""
        self._move(name, "running")

    def finished(self, name: str) -> None:
        """A running node ended well."""
        self._move(name, "finished")

    def reused(self, name: str) -> None:
        """The result of a node is there already: nothing was made."""
        self._move(name, "reused")

    def failed(self, name: str) -> dict[str, str]:
        """A node ended badly.

        Returns:
            The nodes that are skipped as a consequence, each with a node that it needs and that
            failed or is skipped itself.
        """
        self._move(name, "failed")
        return self._skip_what_needs(name)

    def stopped(self, name: str) -> dict[str, str]:
        """A node was ended because somebody asked it to stop, which need not be this flow.

        Returns:
            As :meth:`failed`.
        """
        self._move(name, "stopped")
        return self._skip_what_needs(name)

    def skip(self, name: str) -> dict[str, str]:
        """A waiting node is not to be run at all.

        Returns:
            As :meth:`failed`.
        """
        self._move(name, "skipped")
        return self._skip_what_needs(name)

    def stop(self) -> list[str]:
        """Start nothing more.

        Returns:
            The nodes that will not be started. Queued and running ones are still to be ended.
        """
        waiting = [name for name, state in self._states.items() if state == "waiting"]
        for name in waiting:
            self._enter(name, "stopped")
        return waiting

    def _skip_what_needs(self, name: str) -> dict[str, str]:
        skipped: dict[str, str] = {}
        lost = {name}
        later = [self._placed(each) for each in self._dependents[name]]
        heapq.heapify(later)
        while later:  # in the plan's order: every node comes after those that it needs
            _, other = heapq.heappop(later)
            if self._states[other] == "waiting":
                lost.add(other)
                self._enter(other, "skipped")
                skipped[other] = next(needed for needed in self._needs[other] if needed in lost)
                for each in self._dependents[other]:
                    heapq.heappush(later, self._placed(each))
        return skipped

    def _placed(self, name: str) -> tuple[int, str]:
        return self._places[name], name

    def _move(self, name: str, state: State) -> None:
        if self._states[name] not in _BEFORE[state]:
            raise ValueError(f"{name} cannot be {state}: it is {self._states[name]}")
        self._enter(name, state)

    def _enter(self, name: str, state: State) -> None:
        self._states[name] = state
        self._ready.discard(name)
        self._left -= state in ENDED
        if state in DONE:
            for other in self._dependents[name]:
                self._undone[other] -= 1
                if self._undone[other] == 0 and self._states[other] == "waiting":
                    self._ready.add(other)
