"""``mlflow.json``: how far MLflow has the journal beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sa3d.errors import UserError
from sa3d.utils.files import unread, write_whole

FILE: Final = "mlflow.json"


class UnreadableCursorError(UserError):
    """A ``mlflow.json`` that says nothing, or that the system did not let be read."""


def fresh(uri: str) -> dict[str, Any]:
    """The cursor of a run that the store ``uri`` has nothing of."""
    return {
        "uri": uri,
        "experiment_id": None,
        "run_id": None,
        "steps": {},  # of each curve, the last step that was sent
        "results": {},  # the last value that was sent (of curves, nobody reads it)
        "params": [],
        "inputs": [],
        "artifacts": [],
        "registered": [],  # folders of a flow's models that were registered from here
    }


def read(run_dir: Path) -> dict[str, Any] | None:
    """The cursor in a run folder; None where nothing was sent yet.

    Raises:
        UnreadableCursorError: it was cut short, is another file, or may not be read.
    """
    path = run_dir / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        if (why := unread(error)) is not None:
            raise UnreadableCursorError(f"{path} {why}") from error
        found = None
    if not isinstance(found, dict) or not {"uri", "experiment_id", "run_id"} <= found.keys():
        raise UnreadableCursorError(f"{path} is damaged")
    return fresh("") | found


def write(run_dir: Path, cursor: dict[str, Any]) -> None:
    """Replace the cursor in a run folder, whole."""
    write_whole(run_dir / FILE, json.dumps(cursor).encode())


@dataclass(frozen=True)
class SyncedRun:
    """The MLflow run of a run folder."""

    uri: str
    experiment_id: str
    run_id: str

    @property
    def url(self) -> str | None:
        """Its page, if the store is a server; opens MLflow's view for model training."""
        if not self.uri.startswith(("http://", "https://")):
            return None
        page = f"#/experiments/{self.experiment_id}/runs/{self.run_id}"
        return f"{self.uri.rstrip('/')}/{page}?workflowType=machine_learning"
