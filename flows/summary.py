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
from sa3d.runs import naming
from sa3d.tracking import lineage, mlflow_store
from sa3d.tracking.data_sets import USES, DataUse
from sa3d.tracking.tracker import open_tracker
from sa3d.utils import paths


def handed(settings: Settings) -> dict[str, str]:
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


def record(
    planned: Planned,
    statuses: Sequence[NodeStatus],
    compared: Mapping[str, float],
    *,
    kind: str,
    command: str,
    failed: bool,
) -> None:
    """One run in MLflow's ``sa3d/experiments`` with the headline numbers and the report.

    Args:
        planned: what was done.
        statuses: every node and what became of it.
        compared: further numbers, by name.
        kind: of the flow.
        command: that makes it again.
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
        experiment=mlflow_store.SUMMARIES,
        run_name=str(runtime.flow_run.name),
        tags=tags,
        command=command,
        description=_description(planned, kind),
        data=_data_sets(planned),
    )
    status: Literal["FINISHED", "FAILED"] = "FAILED"
    try:
        tracker.params(_params(planned))
        tracker.results(found | dict(compared))
        tracker.artifact(request.out, "report")
        if request.register:
            tracker.models(_unregistered(settings, statuses))
        status = "FAILED" if failed else "FINISHED"
    finally:
        tracker.close(status)


def _data_sets(planned: Planned) -> list[DataUse]:
    """What the runs read together; of an endless data set only what they are trained on."""
    read = [item for config in planned.request.configs for item in config.data.items()]
    endless = {name for name, data in read if data.endless is not None}
    found = []
    for name, digest in planned.settings.digests.items():
        file, uses = (None, USES[:1]) if name in endless else (paths.processed(name), USES)
        found += [DataUse(name, part, why, digest, file, {}) for part, why in uses]
    return found


def _description(planned: Planned, kind: str) -> str:
    """What the run's page says of it, in Markdown."""
    request = planned.request
    first = (
        f"Summary of {kind} `{request.name}`: the main number of every evaluation, and the report "
        "under Artifacts."
    )
    if request.compares:
        return first
    return f"{first}\n\n{naming.difference(naming.changed_experiment(request.configs[0]))}"


def _unregistered(settings: Settings, statuses: Sequence[NodeStatus]) -> list[dict[str, Any]]:
    """Models that are to be registered once MLflow is there."""
    registered = {
        status.node.needs[0]
        for status in statuses
        if status.node.kind == "register" and status.state in DONE
    }
    return [
        {
            "folder": paths.shown(status.run_dir),
            "experiment": status.node.run.experiment,
            "variant": status.node.run.spec.variant,
            "candidate": status.node.run.spec.seed
            == settings.configs[status.node.run.experiment].seeds[0],
        }
        for status in statuses
        if status.node.kind == "pretrain"
        and status.state in DONE
        and status.run_dir is not None
        and status.node.name not in registered
    ]


def _params(planned: Planned) -> dict[str, Any]:
    """The settings of every cell, where they are the same."""
    trees = [naming.experiment_params(config) for config in planned.request.configs]
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
