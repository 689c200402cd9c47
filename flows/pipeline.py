"""The experiment as a Prefect flow: pre-train, register, evaluate, report.

A node whose result is already there is reused; one that fails stops only what needs it, and alone
runs again next time.

Prefect is told of everything and runs nothing heavy: an executor starts ``sa3d`` processes, so
that a cancelled or killed flow leaves checkpoints and no orphans.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.states import Cancelled, Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from flows import artifacts, tasks
from flows.executors.local import LocalExecutor
from flows.outcome import failures, primary_metric, write_results
from flows.plan import Plan, plan
from flows.resources import Resources
from flows.runner import Runner
from flows.scheduler import DONE
from flows.settings import Settings
from flows.status_table import NodeStatus, StatusTable
from sa3d.config.experiment import ExperimentConfig
from sa3d.runs import naming
from sa3d.tracking import lineage, mlflow_store
from sa3d.tracking.data_sets import USES, DataUse
from sa3d.tracking.tracker import open_tracker
from sa3d.utils import paths

Device = Literal["auto", "cpu", "cuda"]
# tasks at once; they only wait, the executor decides how many compute
_RUNNER = ThreadPoolTaskRunner[PrefectFuture[Any]](max_workers=64)


@flow(
    name="experiment",
    flow_run_name="{config.name}",
    task_runner=_RUNNER,  # type: ignore[arg-type]  # its future is a subclass
)
def experiment(
    config: ExperimentConfig,
    out: Annotated[Path | None, Field(description="report folder; reports/NAME by default")] = None,
    device: Annotated[Device, Field(description="what children compute on")] = "auto",
    quiet: Annotated[bool, Field(description="show no progress")] = False,
) -> State[dict[str, Any]]:
    """Run an experiment to its report. Completed only if every node was whose data is there."""
    began = time.monotonic()
    steps = plan(config, register=not mlflow_store.offline())
    width = sum(node.kind == "evaluate" for node in steps.nodes)
    resources = Resources(device, max(1, width))
    planned = tasks.plan.submit(config)
    settings = planned.result()
    table = StatusTable(steps.nodes, config.name, quiet)
    runner = Runner(steps, settings, LocalExecutor(resources), table, planned, _handed(settings))
    runner.run()
    statuses = list(table.statuses.values())
    facts = {
        # of this call; nodes that were reused or resumed took their time in earlier ones
        "wall_seconds": round(time.monotonic() - began, 1),
        "compute_seconds": round(sum(each.result.get("seconds", 0.0) for each in statuses), 1),
        "reused": [each.node.name for each in statuses if each.state == "reused"],
        "command": _command(config),
        "prefect_flow_run": str(runtime.flow_run.id),
    }
    folder = out or paths.root() / "reports" / config.name
    results = write_results(folder, settings, statuses, facts)
    if runner.requests.count:
        summary = _summary(results, signal=runner.requests.first)
        return Cancelled(message=f"stopped; started again it goes on ({results})", data=summary)
    return _conclude(steps, runner, settings, statuses, results)


def _handed(settings: Settings) -> dict[str, str]:
    """Variables for the children: tags of their runs in MLflow, and whether they are to send."""
    tags = {
        "pipeline_id": settings.pipeline_id,
        "prefect.flow_run_id": str(runtime.flow_run.id),
        "prefect.flow_run_url": str(runtime.flow_run.ui_url),
        # theirs is a file of this flow, in which what was overridden is not to be seen
        naming.PARAMS: paths.shown(naming.settings_file().resolve()),
    }
    offline = {mlflow_store.OFFLINE: "1"} if mlflow_store.offline() else {}
    return {lineage.PARENT_TAGS: json.dumps(tags), **offline}


def _command(config: ExperimentConfig) -> str:
    """What to type to have this run again."""
    if os.environ.get("DVC_STAGE"):
        return f"dvc repro experiment@{config.name}"
    words = sys.orig_argv
    if "flows.experiment" in words:
        return shlex.join(["python", *words[1:]])
    return f"deployed flow `experiment` with the settings of {config.name}"


def _conclude(
    steps: Plan, runner: Runner, settings: Settings, statuses: list[NodeStatus], results: Path
) -> State[dict[str, Any]]:
    """Report, summary run, and the flow's own state."""
    bad = failures(statuses)
    last = tasks.over(runner.futures[name] for name in steps.leaves if name in runner.futures)
    log = str(settings.folder / "report.log")
    future = tasks.report.submit(str(results), log, wait_for=last, return_state=False)
    future.wait()
    reported = future.state.is_completed()
    if not reported:
        bad.append(f"report failed: {future.state.message}")
    # after a failure an older one may lie there
    artifacts.publish(statuses, results.parent / "report.md" if reported else None)
    _record(settings, statuses, results.parent, failed=bool(bad))
    skipped = _skipped(settings, statuses)
    summary = _summary(results, failed=bad, skipped=skipped)
    if bad:
        return Failed(message="; ".join(bad), data=summary)
    return Completed(message="; ".join([f"report in {results.parent}", *skipped]), data=summary)


def _skipped(settings: Settings, statuses: list[NodeStatus]) -> list[str]:
    """A line for each absent data set: how many nodes were skipped for it, and why."""
    counts = Counter(status.absent for status in statuses if status.absent)
    return [
        f"skipped {count} {'node' if count == 1 else 'nodes'}: {settings.absent[name]}"
        for name, count in counts.items()
    ]


def _summary(
    results: Path,
    signal: int = 0,
    failed: Sequence[str] = (),
    skipped: Sequence[str] = (),
) -> dict[str, Any]:
    """What the command line tells: where the results are, what stopped the flow, what failed and
    what was skipped because its data is absent."""
    return {
        "results": str(results),
        "signal": signal,
        "failed": list(failed),
        "skipped": list(skipped),
    }


def _record(settings: Settings, statuses: list[NodeStatus], folder: Path, *, failed: bool) -> None:
    """One run in MLflow's ``sa3d/experiments`` with the headline numbers and the report."""
    config = settings.config
    tags = {"task": "experiment", "experiment": config.name}
    tags |= json.loads(_handed(settings)[lineage.PARENT_TAGS])
    for name in config.datasets:
        tags |= lineage.data_tags(name)
    found = {
        f"test/{status.node.name}": value
        for status in statuses
        if (value := primary_metric(status)) is not None
    }
    differing = naming.changed_experiment(config)
    tracker = open_tracker(
        _record_folder(settings, statuses),
        experiment=mlflow_store.SUMMARIES,
        run_name=naming.name(config.name, differing),
        tags=tags,
        command=_command(config),
        description=f"Summary of experiment `{config.name}`: the main number of every evaluation, "
        f"and the report under Artifacts.\n\n{naming.difference(differing)}",
        data=[
            DataUse(name, part, context, digest, paths.processed(name), {})
            for name, digest in settings.digests.items()
            for part, context in USES
        ],
    )
    status: Literal["FINISHED", "FAILED"] = "FAILED"
    try:
        tracker.params(naming.experiment_params(config))
        tracker.results(found)
        tracker.artifact(folder, "report")
        tracker.models(_unregistered(settings, statuses))
        status = "FAILED" if failed else "FINISHED"
    finally:
        tracker.close(status)


def _unregistered(settings: Settings, statuses: list[NodeStatus]) -> list[dict[str, Any]]:
    """Models that are to be registered once MLflow is there."""
    registered = {
        status.node.needs[0]
        for status in statuses
        if status.node.kind == "register" and status.state in DONE
    }
    return [
        {
            "folder": paths.shown(status.run_dir),
            "experiment": settings.config.name,
            "variant": status.node.run.spec.variant,
            "candidate": status.node.run.spec.seed == settings.config.seeds[0],
        }
        for status in statuses
        if status.node.kind == "pretrain"
        and status.state in DONE
        and status.run_dir is not None
        and status.node.name not in registered
    ]


def _record_folder(settings: Settings, statuses: list[NodeStatus]) -> Path:
    """One for each set of results: other code or another failure is another MLflow run."""
    text = json.dumps([[each.node.name, each.fingerprint, each.state in DONE] for each in statuses])
    return settings.folder / f"summary-{hashlib.sha256(text.encode()).hexdigest()[:10]}"
