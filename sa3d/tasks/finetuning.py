"""What the tasks share that train a classifier: the model, its loss, its trainer."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sa3d.checkpoints.export import load_pretrained
from sa3d.config.finetune import FineTuneConfig
from sa3d.data.loader import Batch
from sa3d.data.store import CloudSet
from sa3d.engine.loop import Fitted, Trainer
from sa3d.engine.types import Progress
from sa3d.errors import ConfigError
from sa3d.metrics import names as keys
from sa3d.models import build_classifier
from sa3d.models.downstream import Classifier
from sa3d.runs.config import RunConfig
from sa3d.runs.context import RunContext
from sa3d.tasks.evaluation import SAMPLING, layer_decay
from sa3d.tasks.training import trainer_of


class Classification(nn.Module):
    """Cross-entropy on a classifier, as the engine trains it.

    Args:
        classifier: what is trained.
        label_smoothing: share of each label that goes to the other classes, evenly.
        num_classes: T.
    """

    def __init__(self, classifier: Classifier, label_smoothing: float, num_classes: int) -> None:
        super().__init__()
        self.classifier = classifier
        # torch spreads its share over all T classes, the true one included
        self.label_smoothing = label_smoothing * num_classes / (num_classes - 1)

    def training_step(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Loss and accuracy of one batch."""
        logits = self.classifier(batch.points).float()
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing)
        right = (logits.argmax(dim=1) == batch.labels).float().mean()
        return {"loss": loss, keys.TRAIN_ACC: right}

    def after_step(self, progress: Progress) -> None:
        """Nothing follows a step."""

    def no_weight_decay(self) -> set[str]:
        """The classifier's tokens."""
        return {f"classifier.{name}" for name in self.classifier.no_weight_decay()}


def check_smoothing(settings: FineTuneConfig, num_classes: int) -> None:
    """Refuse a smoothing after which the true class has no larger share than each other one.

    Raises:
        ConfigError: it tells below which value smoothing is possible with ``num_classes``.
    """
    even = 1.0 - 1.0 / num_classes
    if settings.label_smoothing >= even:
        raise ConfigError(
            f"label_smoothing={settings.label_smoothing} leaves the true class no more than each "
            f"other one of {num_classes} classes; give less than {even:g}"
        )


def start_classifier(
    config: RunConfig, settings: FineTuneConfig, context: RunContext, num_classes: int
) -> tuple[Classifier, str]:
    """A classifier on the run's device, with the encoder of ``context.start`` or random weights.

    Returns:
        The classifier, and in words what its encoder is.

    Raises:
        CheckpointError: the model is not there or does not fit the settings.
    """
    classifier = build_classifier(config.model, num_classes, settings.dropout, settings.pooling)
    encoder = f"random weights, seed {config.spec.seed}"
    if context.start is not None:
        state = load_pretrained(context.start, config.model, encoder_only=True)
        encoder = f"pre-trained: {classifier.load_encoder(state)}"
    return classifier.to(context.device), encoder


def classifier_trainer(
    classifier: Classifier,
    config: RunConfig,
    settings: FineTuneConfig,
    context: RunContext,
    clouds: CloudSet,
    rows: NDArray[Any],
    **more: Any,
) -> Trainer:
    """A trainer of ``classifier`` on ``rows``; see :func:`~sa3d.tasks.training.trainer_of`.

    Args:
        clouds: the data; its classes are those of the classifier.
        more: further arguments of :func:`~sa3d.tasks.training.trainer_of`.

    Raises:
        DataError: see :class:`~sa3d.data.loader.Batches`.
    """
    return trainer_of(
        Classification(classifier, settings.label_smoothing, clouds.num_classes),
        config,
        settings,
        context,
        clouds,
        rows,
        "fps_subset",
        layers={f"classifier.{name}": layer for name, layer in classifier.layer_ids().items()},
        layer_decay=layer_decay(settings.layer_decay, context),
        **more,
    )


def training_protocol(
    config: RunConfig, settings: FineTuneConfig, context: RunContext, encoder: str, fitted: Fitted
) -> dict[str, Any]:
    """How a classifier was trained, for the protocol of its run.

    Args:
        encoder: as :func:`start_classifier` says it.
    """
    return {
        "encoder": encoder,
        "points": config.data.points,
        "train_sampling": "random subset of 1.17 times as many farthest points, new each epoch",
        "sampling": SAMPLING,
        "augmentation": settings.augment,
        "pooling": settings.pooling,
        "label_smoothing": settings.label_smoothing,
        "layer_decay": layer_decay(settings.layer_decay, context),
        "epochs": settings.epochs,
        "steps": fitted.steps,
    }
