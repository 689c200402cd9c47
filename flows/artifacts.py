"""What a flow run shows on its page in Prefect: progress, results, lineage, links."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from flows.outcome import node_entry
from flows.status_table import NodeStatus
from sa3d.metrics import names as keys


class ProgressArtifact:
    """The share of steps that have ended; told to the server only when it changes."""

    def __init__(self) -> None:
        self._told = 0.0
        made = create_progress_artifact(
            0.0, key="progress", description="steps of the experiment that have ended"
        )
        assert isinstance(made, UUID)  # a coroutine only inside an event loop
        self._id = made

    def update(self, fraction: float) -> None:
        """Tell the server, if there is anything new."""
        if fraction != self._told:
            self._told = fraction
            update_progress_artifact(self._id, progress=round(100 * fraction, 1))


def publish(steps: Sequence[NodeStatus], report: Path | None) -> None:
    """The results as a table, the report as Markdown, and a link to each MLflow run."""
    entries = {step.node.name: node_entry(step) for step in steps}
    rows: list[dict[str, Any]] = [
        {
            "step": name,
            "status": entry["status"],
            "test accuracy": entry["metrics"].get(keys.TEST_ACC, ""),
            "seconds": entry["seconds"],
            "fingerprint": entry["fingerprint"] or "",
            "why": entry.get("error", ""),
        }
        for name, entry in entries.items()
    ]
    create_table_artifact(rows, key="results", description="every step of the experiment")
    if report is not None:
        create_markdown_artifact(
            report.read_text(encoding="utf-8"), key="report", description=f"from {report}"
        )
    for name, entry in entries.items():
        if entry["mlflow_url"]:
            create_link_artifact(entry["mlflow_url"], link_text=name, key=f"mlflow-{name}")
