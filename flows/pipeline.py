"""What the flows do: pre-train, register, evaluate, report, for all that a form asks for.

A node whose result is already there is reused; one that fails stops only what needs it, and alone
runs again next time.

Prefect is told of everything and runs nothing heavy: an executor starts ``sa3d`` processes, so
that a cancelled or killed flow leaves checkpoints and no orphans.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import runtime
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Completed, Failed

from flows import artifacts, comparison, planning, tasks
from flows.commands import words_of
from flows.endings import NotCompleted, remembered
from flows.executors import executor
from flows.forms.base import RunningForm
from flows.marks import mark
from flows.outcome import failures, write_results
from flows.planning import REFUSED, Planned
from flows.runner import Runner
from flows.sending import Sender
from flows.settings import Settings
from flows.status_table import NodeStatus, StatusTable
from flows.summary import handed, record
from sa3d.errors import UserError
from sa3d.tracking import mlflow_store
from sa3d.tracking.conclude import conclude

Ended = State[Any]


def carry_out(form: RunningForm) -> Ended:
    """Run what a form asks for to its report; the state of the flow that this is called in.

    Completed only if every node was whose data is there; Failed and named "Refused" if nothing was
    begun.
    """
    began = time.monotonic()
    mark()
    mlflow_store.go_offline(form.offline)
    # started from a page, a run has a report of its own; reports/NAME is what DVC made last
    own = str(runtime.flow_run.id)[:8] if runtime.deployment.id else ""
    future = planning.plan.submit(form, own)
    future.wait()
    if future.state.name == REFUSED:
        return _refused(str(future.state.message))
    planned = future.result()
    assert isinstance(planned, Planned)
    steps, settings = planned.steps, planned.settings
    width = sum(node.kind == "evaluate" for node in steps.nodes)
    try:
        made_by = executor(form.where, form.device, max(1, width), form.queue)
    except UserError as error:
        return _refused(str(error))
    # a worker has no terminal, and its output may end before the flow does
    silent = form.quiet or runtime.deployment.id is not None
    table = StatusTable(steps.nodes, planned.request.name, silent, get_run_logger().info)
    # a worker's process would have to load MLflow as well
    sender = Sender() if form.where == "here" and not mlflow_store.offline() else None
    runner = Runner(steps, settings, made_by, table, future, handed(settings), form.hours, sender)
    runner.run()
    statuses = list(table.statuses.values())
    facts = {
        # of this call; nodes that were reused or resumed took their time in earlier ones
        "wall_seconds": round(time.monotonic() - began, 1),
        "compute_seconds": round(sum(each.result.get("seconds", 0.0) for each in statuses), 1),
        "reused": [each.node.name for each in statuses if each.state == "reused"],
        "command": _command(form),
        "prefect_flow_run": str(runtime.flow_run.id),
    }
    results = _write(planned, statuses, facts)
    if runner.requests.count:
        summary = _summary(results, signal=runner.requests.first)
        message = f"stopped; started again it goes on ({results})"
        ended: Ended = Cancelled(message=message, data=NotCompleted(message, summary))
        return remembered(ended, stopped=True)
    ended = _conclude(form, planned, runner, statuses, results)
    return remembered(ended, stopped=False)


def _command(form: RunningForm) -> str:
    """What to type to have this run again."""
    stage = os.environ.get("DVC_STAGE")
    if stage:
        return f"dvc repro {shlex.quote(stage)}"
    words = sys.orig_argv
    if any(word.startswith("flows.") for word in words):
        return shlex.join(["python", *words[1:]])
    return shlex.join(["python", "-m", *words_of(form)])


def _write(planned: Planned, statuses: list[NodeStatus], facts: dict[str, Any]) -> Path:
    """The results as a file, from which the report is made."""
    request = planned.request
    if request.compares:
        return comparison.write_comparison(planned, statuses, facts)
    name = request.cells[0].config.name
    return write_results(request.out, name, planned.settings, statuses, facts)


def _conclude(
    form: RunningForm,
    planned: Planned,
    runner: Runner,
    statuses: list[NodeStatus],
    results: Path,
) -> Ended:
    """Report, summary run, and the flow's own state."""
    bad = failures(statuses)
    last = tasks.over(runner.boxes(planned.steps.leaves))
    log = str(planned.settings.folder / "report.log")
    future = tasks.report.submit(str(results), log, wait_for=last, return_state=False)
    future.wait()
    reported = future.state.is_completed()
    if not reported:
        bad.append(f"report failed: {future.state.message}")
    # after a failure an older one may lie there
    artifacts.publish(statuses, results.parent / "report.md" if reported else None)
    compared = {}
    if planned.request.compares:
        compared = comparison.means(results)
        artifacts.publish_comparison(comparison.rows(results))
    kind = str(runtime.flow_run.flow_name)
    record(planned, statuses, compared, kind=kind, command=_command(form), failed=bool(bad))
    if any("model_version" in status.result for status in statuses):
        try:
            conclude(results)
        except UserError as error:
            bad.append(f"registered models do not say what was measured of them: {error}")
    skipped = _skipped(planned.settings, statuses)
    summary = _summary(results, failed=bad, skipped=skipped)
    if bad or (form.strict and skipped):
        message = "; ".join([*bad, *skipped])
        return Failed(message=message, data=NotCompleted(message, summary))
    return Completed(message="; ".join([f"report in {results.parent}", *skipped]), data=summary)


def _skipped(settings: Settings, statuses: list[NodeStatus]) -> list[str]:
    """A line for each absent data set: how many nodes were skipped for it, and why."""
    counts = Counter(status.absent for status in statuses if status.absent)
    return [
        f"skipped {count} {'node' if count == 1 else 'nodes'}: {settings.absent[name]}"
        for name, count in counts.items()
    ]


def _refused(why: str) -> Ended:
    data = NotCompleted(why, _summary(None, refused=why))
    return Failed(name=REFUSED, message=why, data=data)


def _summary(
    results: Path | None,
    signal: int = 0,
    failed: Sequence[str] = (),
    skipped: Sequence[str] = (),
    refused: str = "",
) -> dict[str, Any]:
    """What the command line tells: where the results are, what stopped the flow, what failed, what
    was skipped because its data is absent, and why nothing was begun."""
    return {
        "results": str(results) if results else "",
        "signal": signal,
        "failed": list(failed),
        "skipped": list(skipped),
        "refused": refused,
    }
