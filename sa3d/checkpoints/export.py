"""Exported models: a folder with ``model.safetensors`` and a ``model.json`` that explains it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from sa3d import __version__
from sa3d.checkpoints.card import ENCODERS, MODEL_FILE, WEIGHTS_FILE, find_model, model_card
from sa3d.errors import CheckpointError
from sa3d.models.settings import BackboneConfig
from sa3d.utils.files import write_whole
from sa3d.utils.json_file import write_json

FORMAT = 2
# settings that change training but no weight's meaning
_SHAPELESS = {"drop_path"}


def export_model(folder: Path, state: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
    """Write the weights, then ``card`` with their sha256; the card is what makes it whole.

    Args:
        folder: made if needed.
        state: tensors by name; copied to the CPU.
        card: ``kind`` (pretrain, encoder, classifier, taught, segmenter), ``model`` (settings of
            the backbone) and whatever else a later user should know.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    data = safetensors.torch.save(tensors, {"format": "pt"})
    write_whole(folder / WEIGHTS_FILE, data)
    stamp = {"format": FORMAT, "sa3d": __version__, "sha256": hashlib.sha256(data).hexdigest()}
    write_json(folder / MODEL_FILE, {**stamp, **card})


def load_pretrained(
    path: Path, model: BackboneConfig, *, encoder_only: bool = False
) -> dict[str, Tensor]:
    """Weights of a pre-trained model for the architecture ``model``.

    Args:
        path: a run folder or its ``model`` folder.
        model: the ``model`` section of the experiment that wants them.
        encoder_only: the decoder is not wanted: an encoder that is exported alone will do, and it
            may cut clouds into other patches.

    Raises:
        CheckpointError: no model there, damaged, not a pre-trained one, or of another
            architecture; then the settings that differ are named.
    """
    kinds = ENCODERS if encoder_only else ("pretrain",)
    folder, card = find_model(path), checked_card(path, *kinds)
    wanted, found = model.model_dump(mode="json"), card.get("model", {})
    free = _SHAPELESS | model.fine_tuning | (model.regrouping if encoder_only else set())
    keys = sorted((wanted.keys() | found.keys()) - free)
    if wanted["backbone"] != found.get("backbone"):
        keys = ["backbone"]  # no other setting can be compared
    differing = [
        f"{key}={found.get(key)} there, {key}={wanted.get(key)} here"
        for key in keys
        if wanted.get(key) != found.get(key)
    ]
    if differing:
        raise CheckpointError(
            f"{folder} was trained with another model: {'; '.join(differing)}. "
            "Set `model` alike (--set model.key=value) or give another model"
        )
    return read_weights(folder, card)


def read_weights(folder: Path, card: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of an exported model, if they are those that its card describes.

    Raises:
        CheckpointError: damaged.
    """
    data = (folder / WEIGHTS_FILE).read_bytes()
    if hashlib.sha256(data).hexdigest() != card["sha256"]:
        raise CheckpointError(
            f"{folder / WEIGHTS_FILE} is damaged: its sha256 is not that in {MODEL_FILE}"
        )
    try:
        return safetensors.torch.load(data)
    except SafetensorError as error:
        raise CheckpointError(f"{folder / WEIGHTS_FILE} is not readable: {error}") from None


def checked_card(path: Path, *kinds: str) -> dict[str, Any]:
    """The card of an exported model of one of some kinds.

    Raises:
        CheckpointError: no model there, of another format or of none of these kinds.
    """
    folder, card = find_model(path), model_card(path)
    if card.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder} has format {card.get('format')}, this version reads {FORMAT}"
        )
    if card.get("kind") not in kinds:
        remedy = {
            "pretrain": "not a pre-trained model; give the run folder of `sa3d pretrain`",
            "classifier": "not a classifier; give the run folder of `sa3d classify`",
            "taught": "not what `sa3d teach` makes; give the folder that it wrote",
            "segmenter": "not a part segmentation model; give the run folder of `sa3d segment`",
        }
        raise CheckpointError(f"{folder} holds a {card.get('kind')}, {remedy[kinds[0]]}")
    return card
