"""Where every step of a flow stands, and how that is shown while it runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.live import Live
from rich.table import Table

from flows.plan import Node
from flows.supervise import last_line

State = Literal["waiting", "running", "finished", "reused", "failed", "skipped", "stopped"]
DONE: tuple[State, ...] = ("finished", "reused")
_PLAIN_SECONDS = 30.0
_STYLE = {"running": "cyan", "finished": "green", "reused": "green", "failed": "red"}


@dataclass
class NodeStatus:
    """A node of the plan and its current state."""

    node: Node
    state: State = "waiting"
    where: str = ""
    error: str = ""
    seconds: float = 0.0
    fingerprint: str = ""
    run_dir: Path | None = None
    result: dict[str, Any] = field(default_factory=dict)
    started: float = 0.0

    @property
    def log(self) -> Path | None:
        """The child's output."""
        return self.run_dir / "log.txt" if self.run_dir else None

    @property
    def elapsed(self) -> float:
        """Seconds it has run, or ran."""
        return time.monotonic() - self.started if self.state == "running" else self.seconds


class StatusTable:
    """The state of every node: a live table on a terminal, else one line per change.

    Args:
        nodes: of the flow.
        title: over the table.
        quiet: show nothing.
    """

    def __init__(self, nodes: Sequence[Node], title: str, quiet: bool = False) -> None:
        self.steps = {node.name: NodeStatus(node) for node in nodes}
        self._title = title
        self._quiet = quiet
        self._console = Console(file=sys.stderr, highlight=False)
        self._live: Live | None = None
        self._next_plain = 0.0

    @property
    def fraction(self) -> float:
        """Share of steps that have ended, in any way."""
        ended = [step for step in self.steps.values() if step.state not in ("waiting", "running")]
        return len(ended) / len(self.steps)

    def states(self) -> list[State]:
        """The state of every step, in order."""
        return [step.state for step in self.steps.values()]

    def change(self, name: str, state: State, *, where: str = "", error: str = "") -> None:
        """Move a step on, and say so."""
        step = self.steps[name]
        if state == "running":
            step.started = time.monotonic()
        elif step.state == "running":
            step.seconds = time.monotonic() - step.started
        step.state, step.where, step.error = state, where or step.where, error
        if not self._quiet and self._live is None:
            self._console.print(_plain(step), soft_wrap=True, markup=False)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the table while this is open, if there is a terminal to show it on."""
        if self._quiet or not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, refresh_per_second=2, get_renderable=self._table) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def tick(self) -> None:
        """Called often: without a terminal, the running children's progress now and then."""
        now = time.monotonic()
        if self._quiet or self._live is not None or now < self._next_plain:
            return
        self._next_plain = now + _PLAIN_SECONDS
        for step in self.steps.values():
            line = last_line(step.log) if step.log and step.state == "running" else ""
            if line:
                self._console.print(f"  {step.node.name}: {line}", soft_wrap=True, markup=False)

    def _table(self) -> Table:
        table = Table(title=self._title, title_justify="left", box=None, pad_edge=False)
        for column in ("step", "state", "time"):
            table.add_column(column, no_wrap=True)
        table.add_column("", overflow="ellipsis", no_wrap=True)
        for step in self.steps.values():
            note = step.error
            if step.state == "running":
                note = (last_line(step.log) if step.log else "") or step.where
            style = _STYLE.get(step.state, "dim")
            spent = f"{step.elapsed:.0f} s" if step.elapsed else ""
            table.add_row(step.node.name, f"[{style}]{step.state}[/]", spent, _escaped(note))
        return table


def _plain(step: NodeStatus) -> str:
    text = f"{step.node.name}: {step.state}"
    if step.state == "running":
        return f"{text} ({step.where})" + (f", log {step.log}" if step.log else "")
    if step.seconds:
        text += f" in {step.seconds:.0f} s"
    return f"{text}: {step.error}" if step.error else text


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
