"""Backbones, methods and classifiers.

Symbols in every docstring of this package:

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
    from sa3d.config.experiment import ExperimentConfig
    from sa3d.methods.base import Method
    from sa3d.models.backbone import Backbone
    from sa3d.models.downstream import Classifier, Segmenter
    from sa3d.models.settings import BackboneConfig


def _architecture(model: BackboneConfig) -> registry.Architecture:
    name = registry.require(registry.BACKBONES, "backbone", model.backbone)
    return registry.BACKBONES[name]


def build_backbone(model: BackboneConfig) -> Backbone:
    """A backbone with random weights from the ``model`` section of an experiment."""
    found: Backbone = registry.load_at(_architecture(model).where)(model)
    return found


def build_method(
    config: ExperimentConfig, arm: str, knowledge_teacher: Backbone | None = None
) -> Method:
    """The pre-training method of an arm, with random weights.

    Args:
        config: the experiment.
        arm: ``"method"`` or ``"baseline"``.
        knowledge_teacher: trained backbone for sa3df; it belongs to the method from then on.

    Raises:
        ConfigError: sa3df without a knowledge teacher, another method with one, a teacher of
            another shape, or a mask strategy that needs scores in a method that has none.
    """
    from sa3d.methods.mae.method import MAE
    from sa3d.methods.sa3d.method import SA3D

    stage = config.stage(arm)
    if (stage.method == "sa3df") != (knowledge_teacher is not None):
        raise ConfigError(
            f"method={stage.method} "
            + ("needs" if knowledge_teacher is None else "takes no")
            + " knowledge teacher (a plain pre-trained model)"
        )
    backbone = build_backbone(config.model)
    if knowledge_teacher is not None and (
        knowledge_teacher.num_tokens != backbone.num_tokens or knowledge_teacher.dim != backbone.dim
    ):
        raise ConfigError(
            f"the knowledge teacher has {knowledge_teacher.num_tokens} patches of width "
            f"{knowledge_teacher.dim}, the student {backbone.num_tokens} of {backbone.dim}"
        )
    strategy_class = registry.load(registry.MASKS, "mask strategy", stage.mask)
    strategy = strategy_class.from_config(stage, backbone.num_tokens)
    if stage.method != "mae":
        return SA3D(backbone, strategy, stage, knowledge_teacher)
    if any(strategy.needs_scores(epoch, stage.epochs) for epoch in range(stage.epochs)):
        raise ConfigError(f"mask={stage.mask} needs a GC predictor: method sa3d or sa3df, not mae")
    return MAE(backbone, strategy)


def build_classifier(config: ExperimentConfig, num_classes: int) -> Classifier:
    """A classifier with random weights; ``load_encoder`` gives it a pre-trained encoder."""
    kind = registry.load_at(_architecture(config.model).classifier)
    found: Classifier = kind(config.model, num_classes, config.classify.dropout, config.pooling)
    return found


def build_segmenter(
    model: BackboneConfig, num_parts: int, num_categories: int, dropout: float = 0.5
) -> Segmenter:
    """A part segmentation model with random weights, from the ``model`` section of an experiment;
    ``load_encoder`` gives it a pre-trained encoder.

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
