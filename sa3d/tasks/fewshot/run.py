"""Few-shot classification: a classifier trained on a few clouds of a few classes.

Nothing is chosen: there are too few clouds to keep some for validation, so the weights of the last
epoch are tested. The published numbers take the best of all epochs on test; that is the labelled
extra of ``test_every_epoch``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np

from sa3d.data import episodes
from sa3d.data.store import open_clouds
from sa3d.engine.checkpoint import Checkpoint
from sa3d.engine.loop import Fitted
from sa3d.engine.random_state import seed_all
from sa3d.metrics import names as keys
from sa3d.metrics.classification import classification
from sa3d.runs.config import RunConfig
from sa3d.runs.context import RunContext, describe
from sa3d.runs.result import OUTCOMES, Result, finish, result_of, save_outcomes
from sa3d.tasks.fewshot.episode import episode_of
from sa3d.tasks.fewshot.task import FewshotConfig
from sa3d.tasks.finetuning import (
    check_smoothing,
    classifier_trainer,
    start_classifier,
    training_protocol,
)
from sa3d.tasks.first_statistics import first_batch, first_statistics
from sa3d.tasks.selection import Reader
from sa3d.tasks.training import CHECKPOINT
from sa3d.tracking.journal import Tracker
from sa3d.utils.json_file import write_json

EPISODE: Final = "episode.json"


class TestCurve:
    """Reads test after every epoch, for the labelled extra; kept in checkpoints."""

    def __init__(self, read: Callable[[], float], tracker: Tracker) -> None:
        self._read, self._tracker = read, tracker
        self.best = 0.0

    def __call__(self, epoch: int, step: int) -> None:
        """Read test after ``epoch``."""
        found = self._read()
        self.best = max(self.best, found)
        self._tracker.metrics({keys.TEST_EPOCH: found}, step)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.best = state["best"]


def run(config: RunConfig, context: RunContext) -> Result:
    """Train on the episode of the run's fold, test the last weights.

    Raises:
        DataError, ConfigError, CheckpointError: before anything is trained.
        TrainingError, Stopped: see :meth:`sa3d.engine.loop.Trainer.fit`.
    """
    settings = config.settings
    assert isinstance(settings, FewshotConfig)
    check_smoothing(settings, settings.way)
    whole = open_clouds(context.clouds)
    episode, drawn_by = episode_of(whole, settings, config.spec.fold or 0)
    clouds = replace(
        whole,
        labels=episodes.within(whole, episode),
        class_names=episodes.classes_of(whole, episode),
    )
    seed_all(config.spec.seed)
    classifier, encoder = start_classifier(config, settings, context, settings.way)
    describe(config, context)

    points, _ = first_batch(clouds, episode.train, config, len(episode.train))
    first_statistics(classifier, points.to(context.device))
    reader = Reader(clouds, config, settings.batch_size, context.device)
    curve = TestCurve(lambda: reader.measure(classifier, episode.test).score, context.tracker)
    fitted = classifier_trainer(
        classifier,
        config,
        settings,
        context,
        clouds,
        episode.train,
        epoch_end=curve if settings.test_every_epoch else None,
        extra={"curve": curve},
        save_epochs=False,
    ).fit()
    logits, labels = reader.logits(classifier, episode.test, keep=False)
    predicted, truth = logits.argmax(dim=1).numpy(), labels.numpy()
    metrics, confusion = classification(truth, predicted, clouds.class_names)
    if settings.test_every_epoch:
        metrics[keys.TEST_BEST] = curve.best
    context.tracker.results(metrics, fitted.steps)

    family = clouds.family[episode.test]
    save_outcomes(
        context.folder / OUTCOMES,
        predicted == truth,
        episode.test,
        family,
        labels=truth,
        predicted=predicted,
    )
    tree = episodes.as_json(whole, episode) | {"drawn": drawn_by, "data_digest": whole.digest}
    write_json(context.folder / EPISODE, tree)
    result = result_of(
        config,
        context,
        clouds,
        metrics=dict(fitted.metrics) | metrics,
        seconds=fitted.seconds,
        data={
            "train": len(episode.train),
            "test": len(episode.test),
            "test_families": len(np.unique(family)),
            "floor": None,  # that of the data set is over all of its classes
        },
        protocol=_protocol(config, context, settings, encoder, fitted, drawn_by),
        artifacts={"outcomes": OUTCOMES, "episode": EPISODE},
        details={"classes": list(clouds.class_names), "confusion": confusion},
    )
    finish(context, result)
    # of no use any more, and there is one for every fold
    Checkpoint(context.folder / CHECKPOINT, context.fingerprint).remove()
    return result


def _protocol(
    config: RunConfig,
    context: RunContext,
    settings: FewshotConfig,
    encoder: str,
    fitted: Fitted,
    drawn_by: str,
) -> dict[str, Any]:
    return training_protocol(config, settings, context, encoder, fitted) | {
        "episode": episodes.episode_name(settings.way, settings.shot, config.spec.fold or 0),
        "episodes": drawn_by,
        "outputs": f"{settings.way}, one a class of the episode (published: 40, of which the first "
        f"{settings.way} have labels)",
        "batches": f"of {settings.batch_size} clouds; an epoch leaves out what does not fill one",
        "batch_norm": "layers that were not pre-trained begin with the statistics of the episode's "
        "training clouds",
        "headline": "last epoch; nothing is selected",
        "test_reads": 1 + (settings.epochs if settings.test_every_epoch else 0),
    }
