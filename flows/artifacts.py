"""What a flow run shows on its page in Prefect: progress, results, lineage, links."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.logging import get_run_logger
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows.outcome import node_entry, primary_metric
from flows.status_table import NodeStatus
from sa3d.utils import paths

_RETRY_SECONDS = 5.0


class ProgressArtifact:
    """The share of nodes that have ended; told to the server only when it changes.

    A server that is away does not end the flow for this, nor keep it from reading signals: that is
    said once, and the newest share is told when it is back.
    """

    def __init__(self) -> None:
        self._told = 0.0
        self._lost = False
        self._next_try = 0.0
        made = create_progress_artifact(
            0.0, key="progress", description="nodes of the experiment that have ended"
        )
        assert isinstance(made, UUID)  # a coroutine only inside an event loop
        self._id = made

    def update(self, fraction: float) -> None:
        """Tell the server, if there is anything new."""
        if fraction == self._told or time.monotonic() < self._next_try:
            return
        try:
            with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
                update_progress_artifact(self._id, progress=round(100 * fraction, 1))
            self._told = fraction
        except httpx.HTTPError as error:
            self._next_try = time.monotonic() + _RETRY_SECONDS
            if not self._lost:
                get_run_logger().warning("Prefect's server does not answer (%s)", error)
            self._lost = True


def publish(statuses: Sequence[NodeStatus], report: Path | None) -> None:
    """The results as a table, the report as Markdown, and a link to each MLflow run."""
    entries = [node_entry(status) for status in statuses]
    create_table_artifact(
        [_row(status, entry) for status, entry in zip(statuses, entries, strict=True)],
        key="results",
        description="every node of the experiment",
    )
    if report is not None:
        create_markdown_artifact(
            report.read_text(encoding="utf-8"),
            key="report",
            description=f"from {paths.shown(report)}",
        )
    for status, entry in zip(statuses, entries, strict=True):
        url = entry["mlflow_url"]
        if url:
            name = status.node.name
            create_link_artifact(url, link_text=name, key=f"mlflow-{_key(name)}")


def publish_comparison(rows: Sequence[dict[str, Any]]) -> None:
    """The cells of an ablation as a table."""
    create_table_artifact(list(rows), key="comparison", description="every combination")


def _row(status: NodeStatus, entry: dict[str, Any]) -> dict[str, Any]:
    value = primary_metric(status)
    return {
        "node": status.node.name,
        "status": entry["status"],
        "metric": "" if value is None else status.node.run.task.metric.label,
        "value": "" if value is None else value,
        "seconds": entry["seconds"],
        "fingerprint": entry["fingerprint"] or "",
        "why": entry.get("error", ""),
    }


def _key(name: str) -> str:
    """A key as Prefect wants it: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())
