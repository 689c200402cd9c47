"""Where every node of a flow stands, and how that is shown while it runs."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from flows.logs import FILE, last_line
from flows.plan import Node
from flows.scheduler import ENDED, State
from sa3d.utils.paths import shown

_PLAIN_SECONDS = 30.0
MOST_ROWS = 24  # of the live table, which is drawn anew twice a second and has to fit a terminal
_FIRST: tuple[State, ...] = ("running", "failed", "stopped", "queued", "waiting")
_STYLE = {"running": "cyan", "finished": "green", "reused": "green", "failed": "red"}


@dataclass
class NodeStatus:
    """A node of the plan and its current state; ``absent`` says which data set is not there, where
    the node is skipped for that."""

    node: Node
    state: State = "waiting"
    where: str = ""
    error: str = ""
    absent: str = ""
    seconds: float = 0.0
    fingerprint: str = ""
    run_dir: Path | None = None
    result: dict[str, Any] = field(default_factory=dict)
    started: float = 0.0

    @property
    def log(self) -> Path | None:
        """The child's output."""
        return self.run_dir / FILE if self.run_dir else None

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
        log: told every line, whether or not it is shown.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        title: str,
        quiet: bool = False,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.statuses = {node.name: NodeStatus(node) for node in nodes}
        self._title = title
        self._quiet = quiet
        self._log = log
        self._console = Console(file=sys.stderr, highlight=False)
        self._live: Live | None = None
        self._next_plain = 0.0
        self._ended = 0

    @property
    def fraction(self) -> float:
        """Share of nodes that have ended, in any way."""
        return self._ended / len(self.statuses)

    def change(self, name: str, state: State, *, where: str = "", error: str = "") -> None:
        """Move a node on, and say so where there is something to say."""
        status = self.statuses[name]
        if state == "running":
            status.started = time.monotonic()
        elif status.state == "running":
            status.seconds = time.monotonic() - status.started
        self._ended += (state in ENDED) - (status.state in ENDED)
        status.state, status.where, status.error = state, where or status.where, error
        if state == "queued" and not where:
            return
        self._log(_plain(status))
        if not self._quiet and self._live is None:
            self._console.print(_plain(status), soft_wrap=True, markup=False)

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
        for status in self.statuses.values():
            line = last_line(status.log) if status.log and status.state == "running" else ""
            if line:
                self._console.print(f"  {status.node.name}: {line}", soft_wrap=True, markup=False)

    def _table(self) -> Table:
        table = Table(title=self._title, title_justify="left", box=None, pad_edge=False)
        for column in ("node", "state", "time"):
            table.add_column(column, no_wrap=True)
        table.add_column("", overflow="ellipsis", no_wrap=True)
        drawn = self._drawn()
        if len(drawn) < len(self.statuses):
            counts = Counter(status.state for status in self.statuses.values())
            counted = ", ".join(f"{count} {state}" for state, count in counts.items())
            table.caption = f"{len(drawn)} of {len(self.statuses)} nodes; {counted}"
            table.caption_justify = "left"
        for status in drawn:
            note = status.error or (status.where if status.state == "queued" else "")
            if status.state == "running":
                note = (last_line(status.log) if status.log else "") or status.where
            style = _STYLE.get(status.state, "dim")
            spent = f"{status.elapsed:.0f} s" if status.elapsed else ""
            table.add_row(status.node.name, f"[{style}]{status.state}[/]", spent, _escaped(note))
        return table

    def _drawn(self) -> list[NodeStatus]:
        """The nodes that have a row, in the plan's order; of many those where something happens."""
        every = list(self.statuses.values())
        if len(every) <= MOST_ROWS:
            return every
        rank = {state: place for place, state in enumerate(_FIRST)}
        by_interest = sorted(every, key=lambda status: rank.get(status.state, len(rank)))
        chosen = {status.node.name for status in by_interest[:MOST_ROWS]}
        return [status for status in every if status.node.name in chosen]


def _plain(status: NodeStatus) -> str:
    text = f"{status.node.name}: {status.state}"
    if status.state == "running":
        return f"{text} ({status.where})" + (f", log {shown(status.log)}" if status.log else "")
    if status.state == "queued":
        return f"{text}: {status.where}"
    if status.seconds:
        text += f" in {status.seconds:.0f} s"
    return f"{text}: {status.error}" if status.error else text


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
