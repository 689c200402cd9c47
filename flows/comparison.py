"""What an ablation leaves: the results of each cell, and ``ablation.json`` that compares them."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from flows.outcome import primary_metric, write_results
from flows.planning import Planned
from flows.request import Cell
from flows.scheduler import DONE
from flows.status_table import NodeStatus
from sa3d.tasks.base import Metric
from sa3d.utils.files import write_whole

FILE: Final = "ablation.json"
FORMAT: Final = 1


def write_comparison(
    planned: Planned, statuses: Sequence[NodeStatus], facts: dict[str, Any]
) -> Path:
    """Write every cell's results below ``cells/``, and ``ablation.json``; returns that.

    Args:
        planned: what was done.
        statuses: every node and what became of it.
        facts: further entries: times, command and the flow run.
    """
    request, settings = planned.request, planned.settings
    own: dict[str, list[NodeStatus]] = defaultdict(list)
    for status in statuses:
        for name in status.node.experiments:
            own[name].append(status)
    for name in settings.configs:
        write_results(request.out / "cells" / name, name, settings, own[name], facts)
    tree = {
        "format": FORMAT,
        "name": request.name,
        "axes": list(dict.fromkeys(key for cell in request.cells for key in cell.values)),
        "evaluations": _evaluations(statuses),
        "cells": [_cell(cell, own[cell.config.name]) for cell in request.cells],
        **facts,
    }
    return write_whole(request.out / FILE, (json.dumps(tree, indent=2) + "\n").encode())


def means(path: Path) -> dict[str, float]:
    """The mean of each evaluation in each cell, as names of MLflow's metrics."""
    return {
        f"mean/{evaluation}/{cell['name']}": statistics.fmean(values)
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        for evaluation, values in cell["values_of"].items()
        if values
    }


def rows(path: Path) -> list[dict[str, Any]]:
    """A line for each cell: its settings, and the mean of each evaluation."""
    tree = json.loads(path.read_text(encoding="utf-8"))
    return [
        {axis: cell["values"].get(axis, "") for axis in tree["axes"]}
        | {
            f"{evaluation}: {facts['label']}": _shown(cell["values_of"].get(evaluation, []))
            for evaluation, facts in tree["evaluations"].items()
        }
        | {"runs": f"{cell['finished']} of {cell['runs']}"}
        for cell in tree["cells"]
    ]


def _shown(values: Sequence[float]) -> float | str:
    return round(statistics.fmean(values), 4) if values else ""


def _cell(cell: Cell, own: Sequence[NodeStatus]) -> dict[str, Any]:
    values_of: dict[str, list[float]] = {}
    for status in own:
        value = primary_metric(status)
        if value is not None:
            values_of.setdefault(status.node.run.spec.evaluation, []).append(value)
    return {
        "name": cell.config.name,
        "values": dict(cell.values),
        "values_of": values_of,
        "finished": sum(status.state in DONE for status in own),
        "runs": len(own),
        "shared": sum(len(status.node.experiments) > 1 for status in own),
    }


def _evaluations(statuses: Sequence[NodeStatus]) -> Mapping[str, dict[str, Any]]:
    """What the cells are compared by: name, and what the number is."""
    found: dict[str, dict[str, Any]] = {}
    for status in statuses:
        if status.node.kind == "evaluate":
            metric: Metric = status.node.run.task.metric
            found.setdefault(
                status.node.run.spec.evaluation,
                {
                    "label": metric.label,
                    "share": metric.share,
                    "higher_is_better": metric.higher_is_better,
                },
            )
    return found
