"""From settings to a pre-training method with random weights."""

from __future__ import annotations

from sa3d import registry
from sa3d.errors import ConfigError
from sa3d.masking.base import MaskStrategy
from sa3d.methods.base import Method
from sa3d.methods.settings import MethodConfig
from sa3d.models import build_backbone
from sa3d.models.backbone import Backbone
from sa3d.models.settings import BackboneConfig


def build_method(
    settings: MethodConfig, model: BackboneConfig, knowledge_teacher: Backbone | None = None
) -> Method:
    """The pre-training method that ``settings`` describe, with random weights.

    Args:
        settings: of the method, resolved for ``model``.
        model: of the backbone.
        knowledge_teacher: a trained backbone for a method that distils one; it belongs to the
            method from then on.

    Raises:
        ConfigError: a teacher is missing, not wanted or of another shape, or a mask strategy
            needs scores in a method that has none.
    """
    if settings.has_teacher != (knowledge_teacher is not None):
        raise ConfigError(
            f"method={settings.method} "
            + ("needs" if knowledge_teacher is None else "takes no")
            + " knowledge teacher (a plain pre-trained model)"
        )
    backbone = build_backbone(model)
    if knowledge_teacher is not None and (
        knowledge_teacher.num_tokens != backbone.num_tokens or knowledge_teacher.dim != backbone.dim
    ):
        raise ConfigError(
            f"the knowledge teacher has {knowledge_teacher.num_tokens} patches of width "
            f"{knowledge_teacher.dim}, the student {backbone.num_tokens} of {backbone.dim}"
        )
    strategy_class: type[MaskStrategy] = registry.load(
        registry.MASKS, "mask strategy", settings.mask.name
    )
    strategy = strategy_class.from_config(settings.mask, settings.masked_of(backbone.num_tokens))
    epochs = settings.epochs
    if not settings.has_scores and any(strategy.needs_scores(e, epochs) for e in range(epochs)):
        raise ConfigError(
            f"mask={settings.mask.name} needs a method that predicts scores, which "
            f"method={settings.method} does not"
        )
    method_class: type[Method] = registry.load(registry.METHODS, "method", settings.method)
    return method_class.from_config(backbone, strategy, settings, knowledge_teacher)
