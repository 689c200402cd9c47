"""Part segmentation with the whole model trained, from a pre-trained encoder or from scratch.

One set of weights gives instance and category mIoU. Which one, validation chooses; test is read
once, at the end, for these weights (the headline) and for the last ones.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from sa3d.checkpoints.card import FOLDER
from sa3d.checkpoints.export import load_pretrained
from sa3d.data.loader import Batch
from sa3d.data.split import train_val_test
from sa3d.data.store import TEST, TRAIN, VALIDATION, CloudSet, open_clouds
from sa3d.engine.loop import Fitted
from sa3d.engine.random_state import seed_all
from sa3d.engine.types import Progress
from sa3d.metrics import names as keys
from sa3d.metrics.segmentation import PartScores
from sa3d.models import build_segmenter
from sa3d.models.downstream import Segmenter
from sa3d.runs.config import RunConfig
from sa3d.runs.context import RunContext, describe
from sa3d.runs.result import OUTCOMES, Result, finish, result_of, save_outcomes
from sa3d.tasks.evaluation import SAMPLING, Ints, layer_decay
from sa3d.tasks.exporting import export
from sa3d.tasks.first_statistics import first_batch, first_statistics
from sa3d.tasks.segment.reading import PartReader, check_parts
from sa3d.tasks.segment.requires import check
from sa3d.tasks.segment.task import SegmentConfig
from sa3d.tasks.selection import Selection
from sa3d.tasks.training import trainer_of
from sa3d.viz.segmented import FILE as EXAMPLES
from sa3d.viz.segmented import save_segmented

CONFUSED = 12  # pairs of parts that the result names as most often confused


class Segmentation(nn.Module):
    """Cross-entropy over all parts of all categories, as the engine trains it."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def training_step(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Loss, and share of points whose part is the likeliest of all, of one batch."""
        assert batch.parts is not None
        logits = self.segmenter(batch.points, batch.category).flatten(0, 1).float()
        truth = batch.parts.flatten()
        right = (logits.argmax(dim=1) == truth).float().mean()
        return {"loss": F.cross_entropy(logits, truth), keys.TRAIN_ACC: right}

    def after_step(self, progress: Progress) -> None:
        """Nothing follows a step."""

    def no_weight_decay(self) -> set[str]:
        """The segmenter's tokens."""
        return {f"segmenter.{name}" for name in self.segmenter.no_weight_decay()}


class Rows(NamedTuple):
    """Rows of the data set that train, choose the epoch (None: nothing does) and test."""

    train: Ints
    val: Ints | None
    test: Ints
    told: dict[str, Any]  # where validation comes from, for the protocol


def run(config: RunConfig, context: RunContext) -> Result | None:
    """Train, select by validation, test once.

    Returns:
        The result; None in all processes but the main one.

    Raises:
        DataError, ConfigError, CheckpointError: before anything is trained.
        TrainingError, Stopped: see :meth:`sa3d.engine.loop.Trainer.fit`.
    """
    settings = config.settings
    assert isinstance(settings, SegmentConfig)
    clouds = open_clouds(context.clouds)
    check(config, clouds)
    check_parts(clouds)
    rows = _rows(config, settings, clouds)
    seed_all(config.spec.seed)
    segmenter = build_segmenter(
        config.model, len(clouds.part_names), clouds.num_classes, settings.dropout
    )
    loaded = f"random weights, seed {config.spec.seed}"
    if context.start is not None:
        state = load_pretrained(context.start, config.model, encoder_only=True)
        loaded = f"pre-trained: {segmenter.load_encoder(state)}"
    segmenter.to(context.device)
    describe(config, context)

    points, category = first_batch(clouds, rows.train, config, settings.batch_size, parts=True)
    first_statistics(segmenter, points.to(context.device), category.to(context.device))
    reader = PartReader(clouds, config, settings.batch_size, context.device)
    selection = Selection(
        segmenter,
        partial(reader.validate, segmenter),
        partial(reader.measure, segmenter),
        context.tracker,
        keys.VAL_MIOU,
        rows.val,
        rows.test if settings.test_every_epoch else None,
        tested=keys.TEST_MIOU_EPOCH,
    )
    fitted = _fit(config, context, settings, clouds, rows, segmenter, selection)
    if not context.processes.main:
        return None

    last = reader.read(segmenter, rows.test).scores
    chosen, validated = last, {}
    if rows.val is not None:
        segmenter.load_state_dict(selection.weights)
        chosen = reader.read(segmenter, rows.test).scores
        validated = {keys.VAL_MIOU: selection.score[0]}
    metrics = _metrics(chosen, last)
    if selection.best_on_test is not None:
        metrics[keys.TEST_MIOU_BEST] = selection.best_on_test.score
        assert selection.best_on_test.category is not None, "the reader of parts measures it"
        metrics[keys.TEST_MIOU_CATEGORY_BEST] = selection.best_on_test.category
    context.tracker.results(metrics, fitted.steps)
    save_outcomes(
        context.folder / OUTCOMES,
        chosen.per_cloud,
        rows.test,
        clouds.family[rows.test],
        labels=clouds.labels[rows.test],
    )
    save_segmented(context.folder / EXAMPLES, reader.examples(segmenter))
    names = {key: getattr(clouds, key) for key in ("class_names", "part_names", "class_parts")}
    export("segmenter", segmenter.state_dict(), config, context, clouds, **names)
    counts = {"train": rows.train, "val": rows.val, "test": rows.test}
    result = result_of(
        config,
        context,
        clouds,
        metrics=dict(fitted.metrics) | validated | metrics,
        seconds=fitted.seconds,
        data={name: len(own) for name, own in counts.items() if own is not None},
        protocol=_protocol(config, context, settings, clouds, rows, selection, fitted, loaded),
        artifacts={"model": FOLDER, "outcomes": OUTCOMES, "examples": EXAMPLES},
        details={"segmentation": _details(chosen, clouds)},
    )
    return finish(context, result)


def _rows(config: RunConfig, settings: SegmentConfig, clouds: CloudSet) -> Rows:
    if settings.select == "last":
        both = np.concatenate([clouds.indices(split) for split in (TRAIN, VALIDATION)])
        return Rows(np.sort(both), None, clouds.indices(TEST), {})
    splits = train_val_test(clouds, config.data.val_fraction, config.spec.seed)
    told = {"validation": splits.describe(), "val_share": splits.val_share}
    return Rows(splits.train, splits.val, splits.test, told)


def _fit(
    config: RunConfig,
    context: RunContext,
    settings: SegmentConfig,
    clouds: CloudSet,
    rows: Rows,
    segmenter: Segmenter,
    selection: Selection,
) -> Fitted:
    layers = {f"segmenter.{name}": layer for name, layer in segmenter.layer_ids().items()}
    return trainer_of(
        Segmentation(segmenter),
        config,
        settings,
        context,
        clouds,
        rows.train,
        "random",
        parts=True,
        layers=layers,
        layer_decay=layer_decay(settings.layer_decay, context),
        epoch_end=selection,
        extra={"selection": selection},
    ).fit()


def _metrics(chosen: PartScores, last: PartScores) -> dict[str, float]:
    return {
        keys.TEST_MIOU: chosen.instance,
        keys.TEST_MIOU_CATEGORY: chosen.category,
        keys.TEST_POINT_ACC: chosen.point_accuracy,
        keys.TEST_MIOU_LAST: last.instance,
        keys.TEST_MIOU_CATEGORY_LAST: last.category,
        keys.TEST_POINT_ACC_LAST: last.point_accuracy,
    }


def _details(scores: PartScores, clouds: CloudSet) -> dict[str, Any]:
    """What the figures draw, by name; categories and parts that do not occur are left out."""
    wrong = scores.confusion - np.diag(scores.confusion.diagonal())
    worst = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSED]
    pairs = [tuple(map(int, divmod(place, len(wrong)))) for place in worst.tolist()]
    return {
        "categories": [
            {"name": name, "clouds": int(count), "miou": float(value)}
            for name, count, value in zip(
                clouds.class_names, scores.clouds, scores.per_category, strict=True
            )
            if count
        ],
        "parts": {
            name: float(value)
            for name, value in zip(clouds.part_names, scores.per_part, strict=True)
            if np.isfinite(value)
        },
        "confused": [
            [clouds.part_names[true], clouds.part_names[guess], int(wrong[true, guess])]
            for true, guess in pairs
            if wrong[true, guess]
        ],
        "points": int(scores.confusion.sum()),
    }


def _protocol(
    config: RunConfig,
    context: RunContext,
    settings: SegmentConfig,
    clouds: CloudSet,
    rows: Rows,
    selection: Selection,
    fitted: Fitted,
    loaded: str,
) -> dict[str, Any]:
    validated = rows.val is not None
    unseen = np.setdiff1d(clouds.labels[rows.test], clouds.labels[rows.train])
    protocol = {
        "encoder": loaded,
        "points": config.data.points,
        "train_sampling": "random points, new each epoch; a smaller cloud repeats some of its own",
        "sampling": f"{SAMPLING}; a smaller cloud repeats its points in turn",
        "scored": "the points shown; each is assigned to a part of its cloud's true category",
        "augmentation": settings.augment,
        "layer_decay": layer_decay(settings.layer_decay, context),
        "epochs": settings.epochs,
        "steps": fitted.steps,
        **rows.told,
        "selected_epoch": selection.epoch + 1 if validated else settings.epochs,
        "selected_by": "validation instance mIoU, of equals the lower validation loss"
        if validated
        else "nothing: the last epoch",
        "headline": "validation-selected weights" if validated else "weights of the last epoch",
        # one reading at the end, of one or two sets of weights; and one an epoch if asked for
        "test_reads": 1 + (settings.epochs if settings.test_every_epoch else 0),
    }
    if len(unseen):
        names = ", ".join(clouds.class_names[label] for label in unseen)
        protocol["categories_without_training_clouds"] = names
    return protocol
