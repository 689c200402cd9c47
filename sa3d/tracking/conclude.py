"""After the evaluations: what they measured goes to the registered models."""

from __future__ import annotations

import json
from pathlib import Path

from sa3d.errors import UserError
from sa3d.runs.tags import tags_of_folder
from sa3d.tracking import describe, keys, mlflow_store
from sa3d.tracking.journal import FILE, Journal, entries
from sa3d.tracking.mlflow_sync import MlflowSync
from sa3d.tracking.versions import store
from sa3d.utils.paths import RESULT, root


def conclude(results: Path) -> list[str]:
    """Bring every model that an experiment registered up to date with its evaluations.

    Runs from before their tags named the weights that they start from get these tags now.

    Args:
        results: ``results.json`` of the experiment.

    Returns:
        ``NAME/VERSION`` of the models.

    Raises:
        UserError: the file is not such a one, or MLflow refuses or does not answer.
    """
    try:
        nodes = json.loads(results.read_text(encoding="utf-8"))["nodes"].values()
        versions = [node["model_version"] for node in nodes if "model_version" in node]
        folders = [root() / node["run_dir"] for node in nodes if node.get("run_dir")]
        wanted = [(str(each["name"]), str(each["version"])) for each in versions]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{results} is not the results.json of an experiment") from None
    with store() as opened:
        for folder in folders:
            _link(folder)
        for name, version in wanted:
            describe.update(opened, name, version)
    return [f"{name}/{version}" for name, version in wanted]


def _link(folder: Path) -> None:
    """Give a finished run the tags that link it, if it is from before them."""
    if not ((folder / RESULT).is_file() and (folder / FILE).is_file()):
        return  # skipped, failed, or made elsewhere: nothing to link
    if any(
        keys.DATA in each["values"] for each in entries(folder / FILE) if each["kind"] == "tags"
    ):
        return
    journal = Journal(folder)
    journal.tags(tags_of_folder(folder))
    journal.flush()
    MlflowSync(folder, mlflow_store.tracking_uri()).update()
