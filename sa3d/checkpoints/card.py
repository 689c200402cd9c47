"""``model.json``: what an exported model says of itself. Nothing in here imports torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from sa3d.errors import CheckpointError
from sa3d.utils.files import unread

MODEL_FILE: Final = "model.json"
WEIGHTS_FILE: Final = "model.safetensors"
FOLDER: Final = "model"  # within a run folder
ENCODERS: Final = ("pretrain", "encoder")
"""Kinds of exported models that have an encoder which no task has changed."""


def find_model(path: Path) -> Path:
    """The exported model folder at ``path``, a run folder or that folder itself.

    Raises:
        CheckpointError: there is none.
    """
    for folder in (path, path / FOLDER):
        if (folder / MODEL_FILE).is_file() and (folder / WEIGHTS_FILE).is_file():
            return folder
    raise CheckpointError(
        f"no exported model in {path} ({MODEL_FILE} and {WEIGHTS_FILE}, there or in its folder "
        f"{FOLDER}/); give the run folder of a finished run, or convert a published checkpoint "
        "(`sa3d convert`)"
    )


def model_card(path: Path) -> dict[str, Any]:
    """``model.json`` of an exported model.

    Raises:
        CheckpointError: none there, or not readable.
    """
    file = find_model(path) / MODEL_FILE
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if (why := unread(error)) is not None:
            raise CheckpointError(f"{file} {why}") from error
        raise CheckpointError(f"cannot read {file}; export the model again") from None
    if not isinstance(card, dict) or not isinstance(card.get("sha256"), str):
        raise CheckpointError(f"{file} is not the description of an exported model")
    return card


def model_digest(path: Path) -> str:
    """sha256 of an exported model's weights, as its ``model.json`` states it."""
    return str(model_card(path)["sha256"])
