"""Classification with the whole model trained, from a pre-trained encoder or from scratch.

Validation chooses the epoch; test is read once, at the end, for the validation-selected weights
(the headline) and for the last ones.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from sa3d.checkpoints.card import FOLDER
from sa3d.checkpoints.export import load_pretrained
from sa3d.data.loader import Batch
from sa3d.data.split import Splits, train_val_test
from sa3d.data.store import CloudSet, open_clouds
from sa3d.engine.loop import Fitted
from sa3d.engine.random_state import seed_all
from sa3d.engine.types import Progress
from sa3d.errors import ConfigError, DataError
from sa3d.metrics import names as keys
from sa3d.metrics.classification import classification
from sa3d.models import build_classifier
from sa3d.models.downstream import Classifier
from sa3d.runs.config import RunConfig
from sa3d.runs.context import RunContext, describe
from sa3d.runs.result import OUTCOMES, Result, finish, result_of, save_outcomes
from sa3d.tasks.classify.task import ClassifyConfig
from sa3d.tasks.evaluation import SAMPLING
from sa3d.tasks.exporting import export
from sa3d.tasks.selection import Reader, Selection, accuracy
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


def run(config: RunConfig, context: RunContext) -> Result | None:
    """Train, select by validation, test once.

    Returns:
        The result; None in all processes but the main one.

    Raises:
        DataError, ConfigError, CheckpointError: before anything is trained.
        TrainingError, Stopped: see :meth:`sa3d.engine.loop.Trainer.fit`.
    """
    settings = config.settings
    assert isinstance(settings, ClassifyConfig)
    seed = config.spec.seed
    clouds = open_clouds(context.clouds)
    if clouds.num_classes < 2:
        raise DataError(f"{clouds.path} has one class: there is nothing to tell apart")
    even = 1.0 - 1.0 / clouds.num_classes
    if settings.label_smoothing >= even:
        raise ConfigError(
            f"label_smoothing={settings.label_smoothing} leaves the true class no more than each "
            f"other one of {clouds.num_classes} classes; give less than {even:g}"
        )
    splits = train_val_test(clouds, config.data.val_fraction, seed)
    seed_all(seed)
    classifier = build_classifier(
        config.model, clouds.num_classes, settings.dropout, settings.pooling
    )
    loaded = ""
    if context.start is not None:
        state = load_pretrained(context.start, config.model, regroup=True)
        loaded = str(classifier.load_encoder(state))
    classifier.to(context.device)
    describe(config, context)

    reader = Reader(clouds, config, settings.batch_size, context.device)
    test = splits.test if settings.test_every_epoch else None
    selection = Selection(
        classifier,
        partial(reader.measure, classifier),
        context.tracker,
        keys.VAL_ACC,
        splits.val,
        test,
    )
    fitted = _fit(config, context, settings, clouds, splits, classifier, selection)
    if not context.processes.main:
        return None

    last, labels = reader.logits(classifier, splits.test, keep=False)
    classifier.load_state_dict(selection.weights)
    chosen, _ = reader.logits(classifier, splits.test, keep=False)
    predicted, truth = chosen.argmax(dim=1).numpy(), labels.numpy()
    metrics, confusion = classification(truth, predicted, clouds.class_names)
    metrics |= {
        keys.TEST_VAL_SELECTED: metrics[keys.TEST_ACC],
        keys.TEST_LAST: accuracy(last, labels),
    }
    if selection.best_on_test is not None:
        metrics[keys.TEST_BEST] = selection.best_on_test
    context.tracker.results(metrics, fitted.steps)
    save_outcomes(
        context.folder / OUTCOMES,
        predicted == truth,
        splits.test,
        clouds.family[splits.test],
        labels=truth,
        predicted=predicted,
    )
    names = list(clouds.class_names)
    export("classifier", classifier.state_dict(), config, context, clouds, class_names=names)
    result = result_of(
        config,
        context,
        clouds,
        metrics=dict(fitted.metrics) | {keys.VAL_ACC: selection.score[0]} | metrics,
        seconds=fitted.seconds,
        data={"train": len(splits.train), "val": len(splits.val), "test": len(splits.test)},
        protocol=_protocol(config, context, settings, splits, selection, fitted, loaded),
        artifacts={"model": FOLDER, "outcomes": OUTCOMES},
        details={"confusion": confusion},
    )
    return finish(context, result)


def _fit(
    config: RunConfig,
    context: RunContext,
    settings: ClassifyConfig,
    clouds: CloudSet,
    splits: Splits,
    classifier: Classifier,
    selection: Selection,
) -> Fitted:
    layers = {f"classifier.{name}": layer for name, layer in classifier.layer_ids().items()}
    return trainer_of(
        Classification(classifier, settings.label_smoothing, clouds.num_classes),
        config,
        settings,
        context,
        clouds,
        splits.train,
        "fps_subset",
        layers=layers,
        layer_decay=_layer_decay(settings, context),
        epoch_end=selection,
        extra={"selection": selection},
    ).fit()


def _layer_decay(settings: ClassifyConfig, context: RunContext) -> float:
    """It spares what pre-training taught the lower blocks: random weights have nothing to spare."""
    return settings.layer_decay if context.start else 1.0


def _protocol(
    config: RunConfig,
    context: RunContext,
    settings: ClassifyConfig,
    splits: Splits,
    selection: Selection,
    fitted: Fitted,
    loaded: str,
) -> dict[str, Any]:
    scratch = f"random weights, seed {config.spec.seed}"
    return {
        "encoder": f"pre-trained: {loaded}" if context.start else scratch,
        "points": config.data.points,
        "train_sampling": "random subset of 1.17 times as many farthest points, new each epoch",
        "sampling": SAMPLING,
        "augmentation": settings.augment,
        "pooling": settings.pooling,
        "label_smoothing": settings.label_smoothing,
        "layer_decay": _layer_decay(settings, context),
        "epochs": settings.epochs,
        "steps": fitted.steps,
        "validation": splits.describe(),
        "val_share": splits.val_share,
        "selected_epoch": selection.epoch + 1,
        "selected_by": "validation accuracy, of equals the lower validation loss",
        "headline": "validation-selected weights",
        # one reading at the end, of two sets of weights; and one an epoch where asked for
        "test_reads": 1 + (settings.epochs if settings.test_every_epoch else 0),
    }
