"""Registered models as folders on this disk: what other runs start from."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from sa3d.checkpoints.card import MODEL_FILE, WEIGHTS_FILE, find_model, model_digest
from sa3d.errors import CheckpointError, UserError
from sa3d.registry import nearest
from sa3d.tracking import mlflow_store
from sa3d.utils import paths
from sa3d.utils.files import write_whole


def download(
    name: str, *, alias: str | None = None, version: str | None = None
) -> tuple[str, Path]:
    """The exported model of one version in the registry, in ``work/models/``.

    What was brought here before is used again.

    Args:
        name: of the registered model.
        alias: of the version, or
        version: its number.

    Returns:
        ``NAME-vVERSION`` and the folder.

    Raises:
        UserError: the registry has no such model or version, or does not answer.
        CheckpointError: the version holds no exported model, or another one than it says.
    """
    from mlflow.exceptions import MlflowException

    try:
        opened = mlflow_store.client()
        found = (
            opened.get_model_version_by_alias(name, alias)
            if alias is not None
            else opened.get_model_version(name, str(version))
        )
    except MlflowException as error:
        raise _refused(name, alias, version, error) from None
    own = f"{name}-v{found.version}"
    folder = paths.work() / "models" / own
    wanted = found.tags.get("sha256")
    if (folder / MODEL_FILE).is_file() and model_digest(folder) == wanted:
        return own, folder
    with tempfile.TemporaryDirectory() as scratch:
        source = _bring(found, Path(scratch))
        if wanted is not None and model_digest(source) != wanted:
            raise CheckpointError(
                f"{name} version {found.version} holds other weights than its tag `sha256` says; "
                "register it again"
            )
        # the card last: it is what makes the folder a model
        for file in (WEIGHTS_FILE, MODEL_FILE):
            write_whole(folder / file, (source / file).read_bytes())
    return own, folder


def _bring(version: Any, scratch: Path) -> Path:
    """The folder with the exported model inside what was registered."""
    import mlflow.artifacts
    from mlflow import tracking

    # artifacts of models:/ID are resolved by the process's URI, not by that of a client
    tracking.set_tracking_uri(mlflow_store.tracking_uri())
    brought = Path(
        mlflow.artifacts.download_artifacts(artifact_uri=str(version.source), dst_path=str(scratch))
    )
    for card in brought.rglob(MODEL_FILE):
        if (card.parent / WEIGHTS_FILE).is_file():
            return find_model(card.parent)
    raise CheckpointError(
        f"{version.name} version {version.version} holds no model of this project ({MODEL_FILE} "
        f"and {WEIGHTS_FILE}); register one with the flow `pretrain`"
    )


def _refused(name: str, alias: str | None, version: str | None, error: Exception) -> UserError:
    """What the registry's refusal means: no such model, no such version, or no answer."""
    wanted = f"@{alias}" if alias is not None else f"/{version}"
    if getattr(error, "error_code", "") not in (
        "RESOURCE_DOES_NOT_EXIST",
        "INVALID_PARAMETER_VALUE",
    ):
        return UserError(
            f"MLflow at {mlflow_store.tracking_uri()} does not answer "
            f"({mlflow_store.short(error)}); start it, or give the folder of a model"
        )
    known = [each.name for each in mlflow_store.client().search_registered_models()]
    if name not in known:
        there = ", ".join(known) or "none"
        return UserError(f"no registered model '{name}'{nearest(name, known)}; there are: {there}")
    found = mlflow_store.client().search_model_versions(f"name = '{name}'")
    versions = ", ".join(sorted((str(each.version) for each in found), key=int))
    aliases = mlflow_store.client().get_registered_model(name).aliases
    return UserError(
        f"models:/{name}{wanted}: no such version; there are {versions or 'none'}, with the "
        f"aliases {', '.join(f'{key} ({value})' for key, value in aliases.items()) or 'none'}"
    )
