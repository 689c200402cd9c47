"""Classification with the whole model trained, from a pre-trained encoder or from scratch.

Validation chooses the epoch; test is read once, at the end, for the validation-selected weights
(the headline) and for the last ones.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from sa3d.checkpoints.card import FOLDER
from sa3d.data.split import Splits, train_val_test
from sa3d.data.store import open_clouds
from sa3d.engine.loop import Fitted
from sa3d.engine.random_state import seed_all
from sa3d.metrics import names as keys
from sa3d.metrics.classification import classification
from sa3d.runs.config import RunConfig
from sa3d.runs.context import RunContext, describe
from sa3d.runs.result import OUTCOMES, Result, finish, result_of, save_outcomes
from sa3d.tasks.classify.requires import check
from sa3d.tasks.classify.task import ClassifyConfig
from sa3d.tasks.classify.voting import HOW, check_votes, vote, vote_metrics
from sa3d.tasks.exporting import export
from sa3d.tasks.finetuning import (
    check_smoothing,
    classifier_trainer,
    start_classifier,
    training_protocol,
)
from sa3d.tasks.first_statistics import first_batch, first_statistics
from sa3d.tasks.selection import Reader, Selection, accuracy


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
    check(config, clouds)
    check_smoothing(settings, clouds.num_classes)
    check_votes(settings, context)
    splits = train_val_test(clouds, config.data.val_fraction, seed)
    seed_all(seed)
    classifier, encoder = start_classifier(config, settings, context, clouds.num_classes)
    describe(config, context)

    points, _ = first_batch(clouds, splits.train, config, settings.batch_size)
    first_statistics(classifier, points.to(context.device))
    reader = Reader(clouds, config, settings.batch_size, context.device)
    test = splits.test if settings.test_every_epoch else None
    selection = Selection(
        classifier,
        partial(reader.validate, classifier),
        partial(reader.measure, classifier),
        context.tracker,
        keys.VAL_ACC,
        splits.val,
        test,
    )
    fitted = classifier_trainer(
        classifier,
        config,
        settings,
        context,
        clouds,
        splits.train,
        epoch_end=selection,
        extra={"selection": selection},
    ).fit()
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
        metrics[keys.TEST_BEST] = selection.best_on_test.score
    began = time.perf_counter()
    if settings.votes:
        metrics |= vote_metrics(vote(classifier, clouds, splits.test, config, settings, context))
    voting = time.perf_counter() - began
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
        seconds=fitted.seconds + voting,
        data={"train": len(splits.train), "val": len(splits.val), "test": len(splits.test)},
        protocol=_protocol(config, context, settings, splits, selection, fitted, encoder),
        artifacts={"model": FOLDER, "outcomes": OUTCOMES},
        details={"confusion": confusion},
    )
    return finish(context, result)


def _protocol(
    config: RunConfig,
    context: RunContext,
    settings: ClassifyConfig,
    splits: Splits,
    selection: Selection,
    fitted: Fitted,
    encoder: str,
) -> dict[str, Any]:
    found = training_protocol(config, settings, context, encoder, fitted) | {
        "validation": splits.describe(),
        "val_share": splits.val_share,
        "selected_epoch": selection.epoch + 1,
        "selected_by": "validation accuracy, of equals the lower validation loss",
        "headline": "validation-selected weights",
        # one reading at the end, of two sets of weights; one an epoch and one a voting pass where
        # asked for
        "test_reads": 1 + (settings.epochs if settings.test_every_epoch else 0) + settings.votes,
    }
    return found | ({"voting": HOW.format(settings.votes)} if settings.votes else {})
