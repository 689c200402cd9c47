"""The run in MLflow that stands for a whole flow: its settings, headline numbers and report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from prefect import runtime

from flows.outcome import primary_metric
from flows.planning import Planned
from flows.scheduler import DONE
from flows.settings import Settings
from flows.status_table import NodeStatus
from sa3d.config.base import flat
from sa3d.tracking import lineage
from sa3d.tracking.tracker import open_tracker


def handed(settings: Settings) -> dict[str, str]:
    """Variables for the children: tags of their runs in MLflow."""
    tags = {
        "pipeline_id": settings.pipeline_id,
        "prefect.flow_run_id": str(runtime.flow_run.id),
        "prefect.flow_run_url": str(runtime.flow_run.ui_url),
    }
    return {lineage.PARENT_TAGS: json.dumps(tags)}


def record(
    planned: Planned,
    statuses: Sequence[NodeStatus],
    compared: Mapping[str, float],
    *,
    kind: str,
    failed: bool,
) -> None:
    """One run in MLflow's ``sa3d/experiments`` with the headline numbers and the report.

    Args:
        planned: what was done.
        statuses: every node and what became of it.
        compared: further numbers, by name.
        kind: of the flow.
        failed: whether anything did not end well.
    """
    request, settings = planned.request, planned.settings
    tags = {"task": kind, "experiment": request.name}
    tags |= json.loads(handed(settings)[lineage.PARENT_TAGS])
    for name in request.datasets:
        tags |= lineage.data_tags(name)
    found = {
        f"test/{status.node.name}": value
        for status in statuses
        if (value := primary_metric(status)) is not None
    }
    tracker = open_tracker(
        _folder(settings, statuses),
        experiment="sa3d/experiments",
        run_name=str(runtime.flow_run.name),
        tags=tags,
    )
    status: Literal["FINISHED", "FAILED"] = "FAILED"
    try:
        tracker.params(_params(planned))
        tracker.results(found | dict(compared))
        tracker.artifact(request.out, "report")
        status = "FAILED" if failed else "FINISHED"
    finally:
        tracker.close(status)


def _params(planned: Planned) -> dict[str, Any]:
    """The settings of every cell, where they are the same."""
    trees = [flat(config.model_dump(mode="json")) for config in planned.request.configs]
    first, others = trees[0], trees[1:]
    return {
        key: value
        for key, value in first.items()
        if all(key in tree and tree[key] == value for tree in others)
    }


def _folder(settings: Settings, statuses: Sequence[NodeStatus]) -> Path:
    """One for each set of results: other code or another failure is another MLflow run."""
    text = json.dumps([[each.node.name, each.fingerprint, each.state in DONE] for each in statuses])
    return settings.folder / f"summary-{hashlib.sha256(text.encode()).hexdigest()[:10]}"
