"""Exported models as modules, built from what their card says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from sa3d.checkpoints.card import ENCODERS, MODEL_FILE, find_model
from sa3d.checkpoints.export import checked_card, read_weights
from sa3d.config.experiment import ModelConfig
from sa3d.errors import CheckpointError
from sa3d.models import build_backbone, build_classifier, build_segmenter
from sa3d.models.backbone import Backbone
from sa3d.models.downstream import Classifier, Segmenter
from sa3d.models.linear import LinearClassifier
from sa3d.models.loading import load_prefixed
from sa3d.models.settings import BackboneConfig


def load_encoder(path: Path) -> tuple[Backbone, dict[str, Any]]:
    """The backbone of a pre-trained model, in ``eval()`` on the CPU, and its card.

    Of an encoder that was exported alone, the backbone has no decoder. Weights that are stored in
    half precision are float32 here, as all of a backbone is.

    Args:
        path: a run folder or its ``model`` folder.

    Raises:
        CheckpointError: no such model, damaged, or unknown to this version.
    """
    folder, card = find_model(path), checked_card(path, *ENCODERS)
    backbone = build_backbone(model_of(card, folder))
    state = read_weights(folder, card)
    if card["kind"] == "encoder":
        del backbone.decoder
        load_prefixed(backbone, state, "backbone.")
    else:
        backbone.load_student(state)
    return backbone.eval(), card


def load_classifier(path: Path) -> tuple[Classifier, dict[str, Any]]:
    """A fine-tuned classifier, in ``eval()`` on the CPU, and its card with ``class_names``.

    Raises:
        CheckpointError: as :func:`load_encoder`.
    """
    folder, card = find_model(path), checked_card(path, "classifier")
    model = model_of(card, folder)
    classifier = build_classifier(model, *_head_of(card, model, folder))
    _fill(classifier, read_weights(folder, card), folder)
    return classifier.eval(), card


def load_taught(path: Path) -> tuple[LinearClassifier, dict[str, Any]]:
    """A classifier that ``sa3d teach`` made, in ``eval()`` on the CPU, and its card with
    ``class_names``.

    Raises:
        CheckpointError: as :func:`load_encoder`.
    """
    folder, card = find_model(path), checked_card(path, "taught")
    names = card.get("class_names")
    if not isinstance(names, list) or not names:
        raise CheckpointError(
            f"{folder} does not fit its own description: {MODEL_FILE} needs class_names; run "
            "`sa3d teach` again"
        )
    classifier = LinearClassifier(build_backbone(model_of(card, folder)), len(names))
    del classifier.backbone.decoder
    state = read_weights(folder, card)
    load_prefixed(classifier.backbone, state, "backbone.")
    load_prefixed(classifier.head, state, "head.")
    return classifier.eval(), card


def load_segmenter(path: Path) -> tuple[Segmenter, dict[str, Any]]:
    """A part segmentation model, in ``eval()`` on the CPU, and its card.

    The card has ``class_names`` and ``part_names``, and in ``class_parts`` the parts that each
    class may have, as indices into ``part_names``.

    Raises:
        CheckpointError: as :func:`load_encoder`.
    """
    folder, card = find_model(path), checked_card(path, "segmenter")
    model = model_of(card, folder)
    segmenter = build_segmenter(model, *_parts_of(card, folder))
    _fill(segmenter, read_weights(folder, card), folder)
    return segmenter.eval(), card


def _fill(module: nn.Module, state: Mapping[str, Tensor], folder: Path) -> None:
    """Load all of a module.

    Raises:
        CheckpointError: the state is not that of the module which its card describes.
    """
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        said = str(error).splitlines()[-1].strip()
        raise CheckpointError(f"{folder} does not fit its own description: {said}") from None


def _head_of(card: dict[str, Any], model: BackboneConfig, folder: Path) -> tuple[int, float, str]:
    """Number of classes, dropout and pooling that a classifier's card describes."""
    names, settings = card.get("class_names"), card.get("settings")
    if isinstance(names, list) and isinstance(settings, dict):
        dropout, pooling = settings.get("dropout"), settings.get("pooling")
        if isinstance(dropout, float) and 0 <= dropout < 1 and pooling in model.poolings:
            return len(names), dropout, pooling
    raise CheckpointError(
        f"{folder} does not fit its own description: {MODEL_FILE} needs class_names, and in "
        f"settings dropout and pooling ({', '.join(model.poolings)}); export the model again"
    )


def _parts_of(card: dict[str, Any], folder: Path) -> tuple[int, int, float]:
    """Number of parts and of categories, and dropout, that a segmenter's card describes."""
    classes, parts = card.get("class_names"), card.get("part_names")
    members, settings = card.get("class_parts"), card.get("settings")
    if isinstance(classes, list) and isinstance(parts, list) and isinstance(settings, dict):
        dropout = settings.get("dropout")
        named = (
            isinstance(members, list)
            and len(members) == len(classes)
            and all(
                isinstance(each, list) and set(each) <= set(range(len(parts))) for each in members
            )
        )
        if named and isinstance(dropout, float) and 0 <= dropout < 1:
            return len(parts), len(classes), dropout
    raise CheckpointError(
        f"{folder} does not fit its own description: {MODEL_FILE} needs class_names, part_names, "
        "class_parts, and in settings dropout; export the model again"
    )


def model_of(card: dict[str, Any], folder: Path) -> BackboneConfig:
    """The settings of the backbone that a card describes.

    Raises:
        CheckpointError: a backbone or setting unknown to this version.
    """
    try:
        found: BackboneConfig = TypeAdapter(ModelConfig).validate_python(card["model"])
    except (KeyError, ValidationError) as error:
        said = str(error.errors()[0]["msg"]) if isinstance(error, ValidationError) else "no model"
        raise CheckpointError(f"{folder} is of a model unknown here: {said}") from None
    return found
