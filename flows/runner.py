"""One execution of a plan: scheduler, executor, status table and Prefect's tasks together."""

from __future__ import annotations

import queue
import signal
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from prefect.futures import PrefectFuture
from prefect.tasks import Task

from flows import artifacts, tasks
from flows.asking import Cancellation
from flows.executors.base import Event, Executor, Job
from flows.outcome import primary_metric
from flows.plan import Node, Plan
from flows.scheduler import Scheduler, State
from flows.sending import Sender
from flows.settings import Settings, command
from flows.signals import StopRequests
from flows.status_table import StatusTable
from sa3d.checkpoints.card import find_model, model_digest
from sa3d.errors import UserError
from sa3d.runs.fingerprint import LENGTH, finished, locate
from sa3d.runs.spec import RunSpec
from sa3d.tracking import mlflow_store
from sa3d.tracking.tracker import LEFT_TO_FLOW
from sa3d.utils.paths import shown

_ENDED: Final = ("finished", "failed", "stopped")  # a child was there, and is over
_TICK = 0.5  # seconds between looks at registrations and signals, and the age of what is shown


class Runner:
    """Brings every node of a plan to its end.

    Args:
        plan: what is to be done.
        settings: of the flow.
        executor: where runs are made.
        table: where each node stands.
        planned: the task that made the settings; what needs no node comes after it.
        env: variables for every child.
        hours: the longest that a run may take; None: no limit.
        sender: sends to MLflow what short evaluations leave; None: every run sends for itself.
    """

    def __init__(
        self,
        plan: Plan,
        settings: Settings,
        executor: Executor,
        table: StatusTable,
        planned: PrefectFuture[Any],
        env: Mapping[str, str],
        hours: float | None = None,
        sender: Sender | None = None,
    ) -> None:
        self.requests = StopRequests()
        self._futures: dict[str, PrefectFuture[Any]] = {}
        self._plan = plan
        self._settings = settings
        self._executor = executor
        self._table = table
        self._planned = planned
        self._env = env
        self._hours = hours
        self._sender = sender
        self._boxes: dict[str, UUID] = {}
        self._scheduler = Scheduler(plan)
        self._endings: dict[str, tasks.Ending] = {}
        self._cancellation = Cancellation()
        self._registered: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stops = 0

    def boxes(self, names: Iterable[str]) -> list[UUID]:
        """What Prefect shows of these nodes; of one that was not begun, nothing."""
        return [self._boxes[name] for name in names if name in self._boxes]

    def run(self) -> None:
        """Return once every node has ended, or the flow was asked to stop and everything has."""
        progress = artifacts.ProgressArtifact()
        try:
            with self.requests.listen(), self._table.shown():
                self._skip_absent()
                while not self._scheduler.ended:
                    self._heed()
                    for name in self._scheduler.ready():
                        self._begin(name)
                    for event in self._executor.poll(_TICK):
                        self._take(event)
                    self._collect_registered()
                    self._table.tick()
                    progress.update(self._table.fraction)
        finally:
            self._executor.close()
            for name, ending in self._endings.items():  # a task must not wait for ever
                ending.tell(Event(name, "stopped", "the flow ended in an error"))
            self._send_the_rest()

    def _sender_of(self, node: Node) -> Sender | None:
        """What sends a node's journal to MLflow; None: its run does that itself.

        What a pre-training sends is looked up by those that start from it, at their start.
        """
        return self._sender if node.kind == "evaluate" else None

    def _send(self, name: str) -> None:
        """Send what the run of a node has left to the flow, if it leaves anything."""
        status = self._table.statuses[name]
        sender = self._sender_of(status.node)
        if sender is not None and status.run_dir is not None:
            sender.send(status.run_dir)

    def _send_the_rest(self) -> None:
        """Send also what was ended because the flow ended in an error."""
        for name, state in self._scheduler.states.items():
            if state in ("queued", "running"):
                self._send(name)
        if self._sender is not None:
            self._sender.close()

    def _skip_absent(self) -> None:
        """Skip what reads a data set that is absent, with what needs it."""
        for node in self._plan.nodes:
            data = node.run.data.name
            why = self._settings.absent.get(data)
            if why is None or self._scheduler.states[node.name] != "waiting":
                continue
            skipped = {node.name: why} | {
                name: f"needs {needed}" for name, needed in self._scheduler.skip(node.name).items()
            }
            for name in skipped:
                self._table.statuses[name].absent = data
            self._skip(skipped)

    def _heed(self) -> None:
        """Stop, once for each signal that came, and when the run is cancelled in Prefect."""
        if self._cancellation.asked():
            self.requests.note(signal.SIGTERM)
        while self._stops < self.requests.count:
            self._stops += 1
            self._executor.stop()
            for name in self._scheduler.stop():
                self._table.change(name, "stopped", error="not started: the flow was stopped")

    def _begin(self, name: str) -> None:
        """Hand a node over to be run."""
        node = self._plan.by_name[name]
        self._scheduler.queued(name)
        self._table.change(name, "queued")
        try:
            if node.kind == "register":
                self._register(node)
            else:
                self._submit(node)
        except UserError as error:
            self._fail(name, str(error))

    def _submit(self, node: Node) -> None:
        status = self._table.statuses[node.name]
        spec = node.run.spec
        start, teacher = (self._model(node, each) for each in (spec.start, spec.teacher))
        located = locate(node.run, start=start, teacher=teacher)
        status.fingerprint, status.run_dir = located.fingerprint, located.folder
        env = dict(self._env)
        if self._sender_of(node) is not None:
            env[LEFT_TO_FLOW] = "1"
        job = Job(
            name=node.name,
            command=command(located, self._settings),
            folder=located.folder,
            fingerprint=located.fingerprint,
            priority=self._plan.places[node.name],
            whole=node.kind == "pretrain",
            env=env,
            hours=self._hours,
            after=self._before(node.name),
        )
        self._executor.submit(job)

    def _model(self, node: Node, source: RunSpec | str | None) -> Path | None:
        """The folder of a model that a run starts from."""
        if source is None:
            return None
        if isinstance(source, str):
            return find_model(Path(source)).resolve()
        return self._table.statuses[node.needed(source)].run_dir

    def _register(self, node: Node) -> None:
        spec, config = node.run.spec, self._settings.configs[node.run.experiment]
        source = self._table.statuses[node.needs[0]].run_dir
        assert source is not None, "a registration comes after its pre-training"
        self._table.statuses[node.name].fingerprint = model_digest(source)[:LENGTH]
        self._scheduler.started(node.name)
        self._table.change(node.name, "running", where="the flow's process")
        first = spec.seed == config.seeds[0]
        future = self._show(
            node.name, tasks.register, str(source), config.name, spec.variant, candidate=first
        )
        future.add_done_callback(lambda done: self._registered.put(node.name))

    def _collect_registered(self) -> None:
        while not self._registered.empty():
            name = self._registered.get()
            future = self._futures[name]
            future.wait()
            found = future.state.result(raise_on_failure=False)
            if future.state.is_completed():
                self._finish(name, {"model_version": found})
            else:
                self._fail(name, mlflow_store.short(found))

    def _take(self, event: Event) -> None:
        """What an event of the executor means."""
        name = event.name
        shown = self._executor.shown(name)
        if shown is not None:
            self._boxes[name] = shown
        if event.kind in _ENDED:
            self._send(name)
        if event.kind == "waiting":
            self._table.change(name, "queued", where=event.text)
        elif event.kind == "started":
            self._started(event)
        elif event.kind in ("finished", "reused"):
            self._read_result(event)
        elif event.kind == "failed":
            self._fail(name, event.text)
        else:
            skipped = self._scheduler.stopped(name)
            self._end(name, "stopped", event.text)
            self._skip_what_needs(skipped)

    def _started(self, event: Event) -> None:
        name, status = event.name, self._table.statuses[event.name]
        assert status.log is not None, "it has a folder since it was submitted"
        if self._scheduler.states[name] == "queued":
            self._scheduler.started(name)
        self._table.change(name, "running", where=event.text)
        if name not in self._boxes:
            task = tasks.pretrain if status.node.kind == "pretrain" else tasks.evaluate
            self._endings[name] = tasks.Ending()
            self._show(name, task, event.text, shown(status.log), self._endings[name])

    def _read_result(self, event: Event) -> None:
        name, status = event.name, self._table.statuses[event.name]
        assert status.run_dir is not None
        assert status.log is not None
        try:
            result = finished(status.run_dir, status.fingerprint)
        except UserError as error:
            self._fail(name, str(error))
            return
        if result is None:
            self._fail(name, f"ended well but left no result (log: {shown(status.log)})")
        elif event.kind == "finished":
            self._finish(name, result)
            value = primary_metric(status)
            text = shown(status.run_dir)
            if value is not None:
                text = f"{status.node.run.task.metric.name} {value:.4g}; {text}"
            if name in self._endings:
                self._endings.pop(name).tell(replace(event, text=text))
        else:
            status.result = result
            self._scheduler.reused(name)
            self._table.change(name, "reused")
            if name not in self._boxes:
                self._show(name, tasks.reuse, shown(status.run_dir))

    def _finish(self, name: str, result: dict[str, Any]) -> None:
        self._table.statuses[name].result = result
        self._scheduler.finished(name)
        self._table.change(name, "finished")

    def _fail(self, name: str, why: str) -> None:
        skipped = self._scheduler.failed(name)
        self._end(name, "failed", why)
        self._skip_what_needs(skipped)

    def _end(self, name: str, state: State, why: str) -> None:
        """Tell of a bad end, also the task that shows the node, or a new one."""
        self._table.change(name, state, error=why)
        ending = self._endings.pop(name, None)
        if ending is not None:
            ending.tell(Event(name, "stopped" if state == "stopped" else "failed", why))
        elif name not in self._boxes and state == "failed":
            self._show(name, tasks.refuse, why)

    def _skip_what_needs(self, skipped: Mapping[str, str]) -> None:
        """Skip nodes, each for one that it needs."""
        self._skip({name: f"needs {needed}" for name, needed in skipped.items()})

    def _skip(self, reasons: Mapping[str, str]) -> None:
        for name, why in reasons.items():
            self._table.change(name, "skipped", error=why)
            self._show(name, tasks.skip, why)

    def _show(
        self, name: str, task: Task[..., Any], *arguments: Any, **options: Any
    ) -> PrefectFuture[Any]:
        """Have Prefect show a node, with edges from those that it needs."""
        future: PrefectFuture[Any] = task.submit(
            name, *arguments, **options, wait_for=tasks.over(self._before(name))
        )
        self._futures[name], self._boxes[name] = future, future.task_run_id
        return future

    def _before(self, name: str) -> list[UUID]:
        """What Prefect shows of the nodes that a node needs, or of the planning."""
        return self.boxes(self._plan.by_name[name].needs) or [self._planned.task_run_id]
