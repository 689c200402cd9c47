"""The experiment: pre-train, register, compare, report.

plan -> pre-train the baseline -> pre-train the method -> register both -> every task on
{method, baseline, scratch} -> report. A step whose result is already there is reused; one
that fails stops only what needs it, and alone runs again next time.

Prefect is told of everything and runs nothing heavy: its tasks supervise ``sa3d``
subprocesses, so that a cancelled or killed flow leaves checkpoints and no orphans.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import shlex
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from flows import artifacts
from flows.outcome import write_results
from flows.plan import CHILD, Node, Settings, command, finished, nodes_of, settle
from flows.resources import Allocation, Resources
from flows.status_table import DONE, NodeStatus, StatusTable
from flows.supervise import ChildFailed, Children, ChildStopped, last_lines
from sa3d.config.experiment import ExperimentConfig
from sa3d.metrics import names as keys
from sa3d.runs.fingerprint import fingerprint, model_digest
from sa3d.tracking import lineage, mlflow_store
from sa3d.tracking.tracker import open_tracker
from sa3d.utils import paths

Device = Literal["auto", "cpu", "cuda"]
_TICK = 0.5  # seconds between looks at the queue, and the age of what is shown
# tasks at once; they only wait, the resources decide how many compute
_RUNNER = ThreadPoolTaskRunner[PrefectFuture[Any]](max_workers=16)


@flow(
    name="experiment",
    flow_run_name="{config.name}-seed{config.seed}",
    task_runner=_RUNNER,  # type: ignore[arg-type]  # its future is a subclass
)
def experiment(
    config: ExperimentConfig,
    out: Annotated[Path | None, Field(description="report folder; reports/NAME by default")] = None,
    device: Annotated[Device, Field(description="what children compute on")] = "auto",
    quiet: Annotated[bool, Field(description="show no progress")] = False,
) -> State[dict[str, Any]]:
    """Run an experiment to its report. Completed only if every step was."""
    began = time.monotonic()
    settings = plan(config)
    steps = nodes_of(config)
    table = StatusTable(steps, f"{config.name} (seed {config.seed})", quiet)
    width = sum(node.kind == "task" for node in steps)
    running = _Running(settings, table, Resources(device, width), device)
    with running.children.on_signals(), table.shown():
        _run_all(running)
    folder = out or paths.root() / "reports" / config.name
    ended = list(table.steps.values())
    facts = {
        # of this call; steps that were reused or resumed took their time in earlier ones
        "wall_seconds": round(time.monotonic() - began, 1),
        "compute_seconds": round(sum(step.result.get("seconds", 0.0) for step in ended), 1),
        "reused": [step.node.name for step in ended if step.state == "reused"],
        "command": _command(config),
        "prefect_flow_run": str(runtime.flow_run.id),
    }
    results = write_results(folder, settings, ended, facts)
    return _conclude(running, results, facts)


def _command(config: ExperimentConfig) -> str:
    """What to type to have this run again."""
    if os.environ.get("DVC_STAGE"):
        return f"dvc repro experiment@{config.name}"
    words = sys.orig_argv
    if "flows.experiment" in words:
        return shlex.join(["python", *words[1:]])
    return f"deployed flow `experiment` with the settings of {config.name}"


@dataclass
class _Running:
    """One execution of the flow."""

    settings: Settings
    table: StatusTable
    resources: Resources
    device: Device
    children: Children = field(default_factory=Children)
    ended: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)
    futures: dict[str, PrefectFuture[Any]] = field(default_factory=dict)
    allocations: dict[str, Allocation] = field(default_factory=dict)

    def folder(self, name: str) -> Path:
        """The run folder of a finished node."""
        found = self.table.steps[name].run_dir
        assert found is not None
        return found

    def follow(self, name: str, future: PrefectFuture[Any]) -> None:
        """Have the end of a task noted in the queue."""
        self.futures[name] = future
        future.add_done_callback(lambda done: self.ended.put(name))


@task(task_run_name="plan", cache_policy=NO_CACHE)
def plan(config: ExperimentConfig) -> Settings:
    """Everything that can be refused at once, before anything costs time."""
    settings = settle(config)
    mlflow_store.init_store()
    return settings


@task(task_run_name="{name}", cache_policy=NO_CACHE)
def reuse(name: str, run_dir: str) -> State[None]:
    """Say that a step was not run because its result is there."""
    return Completed(name="Reused", message=f"{name}: result of {run_dir}")


def _run_all(running: _Running) -> None:
    """Start what is free to start, until every step has ended."""
    table, shown = running.table, artifacts.ProgressArtifact()
    while any(step.state in ("waiting", "running") for step in table.steps.values()):
        before = table.states()
        for step in table.steps.values():
            if step.state == "waiting":
                _start(running, step)
        table.tick()
        # where something was reused or skipped, the next step may be free at once
        wait = _TICK if table.states() == before else 0.0
        with contextlib.suppress(queue.Empty):
            _collect(running, running.ended.get(timeout=wait))
        shown.update(table.fraction)


def _start(running: _Running, step: NodeStatus) -> None:
    """Start a step if it can: what it needs is there, and so is something to compute on."""
    table, node = running.table, step.node
    needed = [table.steps[name] for name in node.needs]
    if running.children.stopping:
        table.change(node.name, "stopped", error="not started: the flow was stopped")
        return
    lost = [other.node.name for other in needed if other.state in ("failed", "skipped", "stopped")]
    if lost:
        table.change(node.name, "skipped", error=f"needs {lost[0]}")
        return
    if any(other.state not in DONE for other in needed):
        return
    if node.kind == "register":
        _register(running, step)
        return
    if step.run_dir is None:
        _identify(running, step)
        assert step.run_dir is not None
        result = finished(step.run_dir, step.fingerprint)
        if result is not None:
            step.result = result
            table.change(node.name, "reused")
            reuse(node.name, str(step.run_dir))
            return
    allocation = running.resources.allocate(whole=node.kind == "pretrain")
    if allocation is None:
        return
    running.allocations[node.name] = allocation
    runs = {name: running.folder(name) for name in node.needs}
    words = command(node, running.settings, step.run_dir, runs, allocation.threads)
    words += ["--device", "cpu" if not running.resources.gpus else running.device]
    table.change(node.name, "running", where=allocation.name)
    _train(running, node, words, step.run_dir, allocation)


def _identify(running: _Running, step: NodeStatus) -> None:
    node, config = step.node, running.settings.config
    step.fingerprint = fingerprint(
        node.task,
        config,
        arm=node.arm,
        clouds=paths.processed(config.data.name),
        init=running.folder(node.model) if node.model else None,
        knowledge_teacher=running.folder(node.teacher) if node.teacher else None,
    )
    step.run_dir = paths.work() / f"{node.task}-{node.arm}-{step.fingerprint}"


def _train(
    running: _Running, node: Node, words: list[str], run_dir: Path, allocation: Allocation
) -> None:
    children = running.children
    handed = {
        "pipeline_id": running.settings.pipeline_id,
        "prefect.flow_run_id": str(runtime.flow_run.id),
        "prefect.flow_run_url": str(runtime.flow_run.ui_url),
    }
    env = {**allocation.env, lineage.PARENT_TAGS: json.dumps(handed)}

    @task(name="train", task_run_name="{name}", cache_policy=NO_CACHE)
    def train(name: str, command_line: list[str]) -> None:
        """Supervise one ``sa3d`` subprocess."""
        logger = get_run_logger()
        logger.info("on %s: %s", allocation.name, " ".join(command_line))
        log = run_dir / "log.txt"
        children.run(command_line, log=log, env=env)
        logger.info("its last lines: %s", last_lines(log))

    running.follow(node.name, train.submit(node.name, words))


def _register(running: _Running, step: NodeStatus) -> None:
    node, config = step.node, running.settings.config
    assert node.model is not None
    source = running.folder(node.model)

    @task(name="register", task_run_name="{name}", cache_policy=NO_CACHE)
    def register(name: str, run_dir: str) -> None:
        """Make a version of the exported model in the registry."""
        from sa3d.tracking import model_registry

        step.result = {
            "model_version": model_registry.register(Path(run_dir), config.name, node.arm)
        }

    step.fingerprint = model_digest(source)[:16]
    running.table.change(node.name, "running", where="the flow's process")
    running.follow(node.name, register.submit(node.name, str(source)))


def _collect(running: _Running, name: str) -> None:
    """Note how a step ended; read its result."""
    future = running.futures.pop(name)
    future.wait()
    state = future.state
    allocation = running.allocations.pop(name, None)
    if allocation is not None:
        allocation.release()
    step = running.table.steps[name]
    if state.is_completed():
        if step.run_dir is not None:
            result = finished(step.run_dir, step.fingerprint)
            if result is None:
                running.table.change(name, "failed", error=_no_result(step.run_dir))
                return
            step.result = result
        running.table.change(name, "finished")
        return
    error = state.result(raise_on_failure=False)
    if isinstance(error, ChildStopped):
        running.table.change(name, "stopped", error=str(error))
    else:
        text = str(error) if isinstance(error, ChildFailed) else mlflow_store.short(error)
        running.table.change(name, "failed", error=text)


def _no_result(run_dir: Path) -> str:
    if (run_dir / paths.RESULT).is_file():
        return f"the result in {run_dir} is another run's; did code or data change meanwhile?"
    return f"ended well but left no result in {run_dir}"


def _conclude(running: _Running, results: Path, facts: dict[str, Any]) -> State[dict[str, Any]]:
    """Report, summary run, and the flow's own state."""
    steps = list(running.table.steps.values())
    summary: dict[str, Any] = {
        "results": str(results),
        "signal": running.children.stopped_by,
        "failed": [],
    }
    if running.children.stopping:
        return Cancelled(message=f"stopped; started again it goes on ({results})", data=summary)
    bad = [
        f"{step.node.name} {step.state}: {step.error}" for step in steps if step.state not in DONE
    ]
    try:
        write_report(results, running.settings.folder / "report.log")
    except ChildFailed as error:
        bad.append(f"report failed: {error}")
    report = results.parent / "report.md"
    artifacts.publish(steps, report if report.is_file() else None)
    _summarise(running, results.parent, facts, failed=bool(bad))
    summary["failed"] = bad
    if bad:
        return Failed(message="; ".join(bad), data=summary)
    return Completed(message=f"report in {results.parent}", data=summary)


@task(task_run_name="report", cache_policy=NO_CACHE)
def write_report(results: Path, log: Path) -> None:
    """Make the report beside ``results.json``."""
    words = [*CHILD, "report", str(results), "--out", str(results.parent)]
    Children().run(words, log=log, env={"CUDA_VISIBLE_DEVICES": ""})


def _summarise(running: _Running, folder: Path, facts: dict[str, Any], failed: bool) -> None:
    """One run in ``sa3d/experiments`` with the headline numbers and the report."""
    config = running.settings.config
    tags = {
        "stage": "experiment",
        "seed": str(config.seed),
        "data": config.data.name,
        "pipeline_id": running.settings.pipeline_id,
        "prefect.flow_run_id": str(facts["prefect_flow_run"]),
        "prefect.flow_run_url": str(runtime.flow_run.ui_url),
    }
    found = {
        f"test/{step.node.name}": step.result["metrics"][keys.TEST_ACC]
        for step in running.table.steps.values()
        if keys.TEST_ACC in step.result.get("metrics", {})
    }
    tracker = open_tracker(
        _summary_folder(running),
        experiment="sa3d/experiments",
        run_name=f"{config.name}-s{config.seed}",
        tags=tags,
    )
    status: Literal["FINISHED", "FAILED"] = "FAILED"
    try:
        tracker.params(config.dotted())
        tracker.results(found)
        tracker.artifact(folder, "report")
        status = "FAILED" if failed else "FINISHED"
    finally:
        tracker.close(status)


def _summary_folder(running: _Running) -> Path:
    """One for each set of results: other code or another failure is another MLflow run."""
    steps = running.table.steps.values()
    said = json.dumps([[step.node.name, step.fingerprint, step.state in DONE] for step in steps])
    return running.settings.folder / f"summary-{hashlib.sha256(said.encode()).hexdigest()[:10]}"
