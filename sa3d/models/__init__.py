"""Backbones, and the models that downstream tasks make of them.

Symbols in every docstring of this package and of :mod:`sa3d.methods`:

    B  clouds in a batch          C  width of a token
    N  points of a cloud          M  masked patches
    G  patches (tokens) a cloud   V  visible patches, G - M
    K  points of a patch          P  points predicted for a patch

Tensors are channel-last. Boolean masks: True = masked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sa3d import registry
from sa3d.errors import ConfigError

if TYPE_CHECKING:
    from sa3d.models.backbone import Backbone
    from sa3d.models.downstream import Classifier, Segmenter
    from sa3d.models.settings import BackboneConfig


def _architecture(model: BackboneConfig) -> registry.Architecture:
    name = registry.require(registry.BACKBONES, "backbone", model.backbone)
    return registry.BACKBONES[name]


def build_backbone(model: BackboneConfig) -> Backbone:
    """A backbone with random weights."""
    found: Backbone = registry.load_at(_architecture(model).where)(model)
    return found


def build_classifier(
    model: BackboneConfig, num_classes: int, dropout: float, pooling: str | None = None
) -> Classifier:
    """A classifier with random weights; ``load_encoder`` gives it a pre-trained encoder.

    Args:
        model: of the backbone.
        num_classes: outputs.
        dropout: in its head.
        pooling: one of the backbone's ``poolings``; None: the first.
    """
    kind = registry.load_at(_architecture(model).classifier)
    found: Classifier = kind(model, num_classes, dropout, pooling or model.poolings[0])
    return found


def build_segmenter(
    model: BackboneConfig, num_parts: int, num_categories: int, dropout: float = 0.5
) -> Segmenter:
    """A part segmentation model with random weights; ``load_encoder`` gives it a pre-trained
    encoder.

    Raises:
        ConfigError: the backbone has none, or none for such an encoder.
    """
    where = _architecture(model).segmenter
    if where is None:
        raise ConfigError(
            f"model.backbone={model.backbone} has no model for part segmentation; use another"
        )
    found: Segmenter = registry.load_at(where)(model, num_parts, num_categories, dropout)
    return found
