"""What a flow leaves: ``results.json`` for people and the report, ``lineage.json`` for proof."""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.scheduler import DONE
from flows.settings import Settings
from flows.status_table import NodeStatus
from sa3d.tracking import lineage, mlflow_store, mlflow_sync
from sa3d.utils.files import write_whole
from sa3d.utils.paths import root, shown
from sa3d.utils.text import examples, without_log

FORMAT = 2  # of results.json


def node_entry(status: NodeStatus) -> dict[str, Any]:
    """What ``results.json`` says of one node."""
    entry: dict[str, Any] = {
        "kind": status.node.kind,
        "spec": status.node.run.spec.as_json(),
        "status": status.state,
        "run_dir": shown(status.run_dir) if status.run_dir else None,
        "metrics": status.result.get("metrics", {}),
        "seconds": round(status.result.get("seconds", status.seconds), 2),
        "fingerprint": status.fingerprint or None,
    }
    if status.error:
        entry["error"] = status.error
    if "model_version" in status.result:
        entry["model_version"] = status.result["model_version"]
    run = mlflow_sync.run_of(status.run_dir) if status.run_dir else None
    entry["mlflow_run_id"] = run.run_id if run else None
    entry["mlflow_url"] = run.url if run else None
    return entry


def primary_metric(status: NodeStatus) -> float | None:
    """The number by which the runs of the node's task are compared; None: there is none."""
    if status.node.kind != "evaluate":
        return None
    value: float | None = status.result.get("metrics", {}).get(status.node.run.task.metric.name)
    return value


def failures(statuses: Sequence[NodeStatus]) -> list[str]:
    """What did not end well, other than for absent data: a line for every reason."""
    alike: dict[tuple[str, str], list[NodeStatus]] = defaultdict(list)
    for status in statuses:
        if status.state not in DONE and not status.absent:
            alike[status.state, without_log(status.error)].append(status)
    lines = []
    for (state, _), ended in alike.items():
        reason = ended[0].error  # with the log of the first
        names = [status.node.name for status in ended]
        if len(ended) == 1:
            lines.append(f"{names[0]} {state}: {reason}")
        else:
            lines.append(f"{len(ended)} runs {state}: {reason}: {examples(names, 3)}")
    return lines


def write_results(
    out: Path,
    experiment: str,
    settings: Settings,
    statuses: Sequence[NodeStatus],
    facts: dict[str, Any],
) -> Path:
    """Write ``results.json`` and ``lineage.json`` of an experiment into ``out``; returns the first.

    Args:
        out: the report folder.
        experiment: one of the flow's.
        settings: of the flow.
        statuses: every node and what became of it; those of other experiments are left out.
        facts: further entries of ``results.json``: times, command and the flow run.
    """
    nodes = {
        status.node.local: node_entry(status)
        for status in statuses
        if experiment in status.node.experiments
    }
    origin = _lineage(settings, nodes, facts)
    results = {
        "format": FORMAT,
        "experiment": settings.configs[experiment].model_dump(mode="json"),
        "nodes": nodes,
        "data": {name: {"digest": digest} for name, digest in settings.digests.items()}
        | {name: {"absent": why} for name, why in settings.absent.items()},
        "lineage": origin,
        **facts,
    }
    _write_json(out / "lineage.json", origin)
    return _write_json(out / "results.json", results)


def _lineage(
    settings: Settings, nodes: dict[str, dict[str, Any]], facts: dict[str, Any]
) -> dict[str, Any]:
    lock = root() / "dvc.lock"
    return {
        "pipeline_id": settings.pipeline_id,
        **lineage.git(),
        "dvc.lock.sha256": hashlib.sha256(lock.read_bytes()).hexdigest()
        if lock.is_file()
        else None,
        "data": {
            name: {"digest": digest, "md5": lineage.data_md5(name)}
            for name, digest in settings.digests.items()
        },
        "mlflow": {
            "tracking_uri": _public(mlflow_store.tracking_uri()),
            "runs": {key: entry["mlflow_run_id"] for key, entry in nodes.items()},
            "models": {
                key: entry["model_version"]
                for key, entry in nodes.items()
                if "model_version" in entry
            },
        },
        "fingerprints": {key: entry["fingerprint"] for key, entry in nodes.items()},
        "prefect_flow_run": facts.get("prefect_flow_run"),
        "dvc_experiment": os.environ.get("DVC_EXP_NAME"),
    }


def _public(uri: str) -> str:
    """The store without a path of this machine's and without credentials."""
    database = mlflow_store.sqlite_path(uri)
    if database is not None:
        return mlflow_store.sqlite_uri(Path(shown(database)))
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _write_json(path: Path, value: Any) -> Path:
    return write_whole(path, (json.dumps(value, indent=2) + "\n").encode())
