"""Registered models as folders on this disk: what other runs start from."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from sa3d.checkpoints.card import MODEL_FILE, WEIGHTS_FILE, find_model, model_digest
from sa3d.errors import CheckpointError
from sa3d.tracking import keys, versions
from sa3d.utils import paths
from sa3d.utils.files import write_whole


def download(name: str, which: str) -> tuple[str, Path]:
    """The exported model of one version in the registry, in ``work/models/``.

    What was brought here before is used again.

    Args:
        name: of the registered model.
        which: number or alias of the version.

    Returns:
        ``NAME-vVERSION`` and the folder.

    Raises:
        UserError: the registry has no such model or version, or does not answer.
        CheckpointError: the version holds no exported model, or another one than it says.
    """
    with versions.store() as opened:
        found = versions.find(opened, name, which)
        own = f"{name}-v{found.version}"
        folder = paths.work() / "models" / own
        wanted = found.tags.get(keys.SHA256)
        if (folder / MODEL_FILE).is_file() and model_digest(folder) == wanted:
            return own, folder
        with tempfile.TemporaryDirectory() as scratch:
            source = _exported(found, versions.download(opened, found, "", scratch))
            if wanted is not None and model_digest(source) != wanted:
                raise CheckpointError(
                    f"{name} version {found.version} holds other weights than its tag "
                    f"`{keys.SHA256}` says; register it again"
                )
            # the card last: it is what makes the folder a model
            for file in (WEIGHTS_FILE, MODEL_FILE):
                write_whole(folder / file, (source / file).read_bytes())
    return own, folder


def _exported(version: Any, brought: Path) -> Path:
    """The folder with the exported model inside what was registered."""
    for card in brought.rglob(MODEL_FILE):
        if (card.parent / WEIGHTS_FILE).is_file():
            return find_model(card.parent)
    raise CheckpointError(
        f"{version.name} version {version.version} holds no model of this project ({MODEL_FILE} "
        f"and {WEIGHTS_FILE}); register one with the flow `pretrain`"
    )
