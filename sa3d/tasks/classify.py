"""Classification with the whole model trained, from a pre-trained encoder or from scratch.

Validation is carved out of the training split and chooses the epoch; test is read once, at
the end, for the validation-selected weights (the headline) and for the last ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sa3d.checkpoints.export import export_model, load_pretrained
from sa3d.config.experiment import ClassifyConfig, ExperimentConfig
from sa3d.data.loader import Batch
from sa3d.data.split import Splits, train_val_test
from sa3d.data.store import CloudSet, open_clouds
from sa3d.engine.loop import Fitted
from sa3d.engine.random_state import seed_all
from sa3d.engine.types import Progress
from sa3d.errors import TrainingError
from sa3d.metrics import names as keys
from sa3d.models import build_classifier
from sa3d.models.downstream import Classifier
from sa3d.runs.context import (
    PREDICTIONS,
    Result,
    RunContext,
    describe,
    finish,
    result_of,
    split_counts,
)
from sa3d.tasks.evaluation import SAMPLING, Ints, fixed_batches, save_predictions, scores
from sa3d.tasks.training import trainer_of

MODEL = "model"


class Classification(nn.Module):
    """Cross-entropy on a classifier, as the engine's method."""

    def __init__(self, classifier: Classifier, label_smoothing: float) -> None:
        super().__init__()
        self.classifier = classifier
        self.label_smoothing = label_smoothing

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


class Selection:
    """Reads validation after every epoch and keeps the best weights; kept in checkpoints."""

    def __init__(
        self,
        classifier: Classifier,
        reader: Reader,
        run: RunContext,
        rows: dict[str, Ints],
    ) -> None:
        self._classifier, self._reader, self._run, self._rows = classifier, reader, run, rows
        self.epoch = -1
        self.score = (-1.0, -np.inf)
        self.weights: dict[str, Tensor] = {}
        self.best_on_test: float | None = None

    def __call__(self, epoch: int, step: int) -> None:
        """Read validation (and, where the experiment asks for it, test) after ``epoch``."""
        logits, labels = self._reader.logits(self._classifier, self._rows["val"])
        accuracy = _accuracy(logits, labels)
        loss = float(F.cross_entropy(logits, labels))
        if not np.isfinite(loss):
            raise TrainingError(
                f"{keys.VAL_LOSS} became {loss} after epoch {epoch}; try a lower lr or a clip"
            )
        values = {keys.VAL_ACC: accuracy, keys.VAL_LOSS: loss}
        # small validation splits tie often: of equal accuracies the lower loss
        if (accuracy, -loss) > self.score:
            self.score, self.epoch = (accuracy, -loss), epoch
            self.weights = {k: v.clone() for k, v in self._classifier.state_dict().items()}
        if "test" in self._rows:
            tested = _accuracy(*self._reader.logits(self._classifier, self._rows["test"]))
            self.best_on_test = max(tested, self.best_on_test or 0.0)
            values[keys.TEST_EPOCH] = tested
        self._run.tracker.metrics(values, step)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {
            "epoch": self.epoch,
            "score": self.score,
            "weights": self.weights,
            "best_on_test": self.best_on_test,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.epoch, self.weights = state["epoch"], state["weights"]
        self.score, self.best_on_test = tuple(state["score"]), state["best_on_test"]


class Reader:
    """Logits of fixed rows, in evaluation mode and fp32."""

    def __init__(self, clouds: CloudSet, config: ExperimentConfig, device: torch.device) -> None:
        self._clouds, self._config, self._device = clouds, config, device
        self._kept: dict[bytes, list[Batch]] = {}

    @torch.no_grad()
    def logits(
        self, classifier: Classifier, rows: Ints, *, keep: bool = True
    ) -> tuple[Tensor, Tensor]:
        """(S, classes) logits and (S,) labels, on the CPU; the classifier's mode is restored.

        Args:
            keep: hold the sampled clouds in memory for the next epoch.
        """
        batches: Any = self._kept.get(rows.tobytes())
        if batches is None:
            size = self._config.classify.batch_size
            batches = fixed_batches(self._clouds, rows, self._config, size).epoch(0)
            if keep:
                batches = self._kept[rows.tobytes()] = list(batches)
        training = classifier.training
        classifier.eval()
        found = [(classifier(b.points.to(self._device)).float().cpu(), b.labels) for b in batches]
        classifier.train(training)
        return torch.cat([one for one, _ in found]), torch.cat([two for _, two in found])


def run(config: ExperimentConfig, run: RunContext) -> Result | None:
    """Train, select by validation, test once.

    Returns:
        The result; None in all processes but the main one.

    Raises:
        DataError, CheckpointError: before anything is trained.
        TrainingError, Stopped: see :meth:`sa3d.engine.loop.Trainer.fit`.
    """
    settings = config.classify
    clouds = open_clouds(run.clouds_path)
    splits = train_val_test(clouds, config.data.val_fraction, config.seed)
    seed_all(config.seed)
    classifier = build_classifier(config, clouds.num_classes)
    loaded = ""
    if run.init is not None:
        loaded = str(classifier.load_encoder(load_pretrained(run.init, config.model, regroup=True)))
    classifier.to(run.device)
    describe(run, config)

    reader = Reader(clouds, config, run.device)
    rows = {"val": splits.val} | ({"test": splits.test} if settings.test_every_epoch else {})
    selection = Selection(classifier, reader, run, rows)
    fitted = _fit(config, run, clouds, splits.train, classifier, selection)
    if not run.processes.main:
        return None

    last, labels = reader.logits(classifier, splits.test, keep=False)
    classifier.load_state_dict(selection.weights)
    chosen, _ = reader.logits(classifier, splits.test, keep=False)
    predicted = chosen.argmax(dim=1).numpy()
    found = scores(labels.numpy(), predicted, clouds.class_names)
    metrics = dict(found["metrics"])
    metrics |= {
        keys.TEST_VAL_SELECTED: metrics[keys.TEST_ACC],
        keys.TEST_LAST: _accuracy(last, labels),
    }
    if selection.best_on_test is not None:
        metrics[keys.TEST_BEST] = selection.best_on_test
    run.tracker.metrics(metrics, fitted.steps)
    save_predictions(run.run_dir / PREDICTIONS, clouds, splits.test, predicted)
    export_model(run.run_dir / MODEL, classifier.state_dict(), _card(config, run, clouds))
    result = result_of(
        run,
        config,
        clouds,
        "classify",
        metrics=dict(fitted.metrics) | {keys.VAL_ACC: selection.score[0]} | metrics,
        seconds=fitted.seconds,
        data=split_counts(splits),
        protocol=_protocol(config, run, splits, selection, fitted, loaded),
        artifacts={"model": MODEL, "predictions": PREDICTIONS},
        confusion=found["confusion"],
    )
    return finish(run, result)


def _fit(
    config: ExperimentConfig,
    run: RunContext,
    clouds: CloudSet,
    rows: Ints,
    classifier: Classifier,
    selection: Selection,
) -> Fitted:
    settings = config.classify
    layers: Mapping[str, int] = {
        f"classifier.{name}": layer for name, layer in classifier.layer_ids().items()
    }
    return trainer_of(
        "classify",
        Classification(classifier, settings.label_smoothing),
        config,
        settings,
        run,
        clouds,
        rows,
        "fps_subset",
        layers=layers,
        layer_decay=_layer_decay(config, run),
        epoch_end=selection,
        extra={"selection": selection},
    ).fit()


def _layer_decay(config: ExperimentConfig, run: RunContext) -> float:
    """It spares what pre-training taught the lower blocks: random weights have nothing to spare."""
    return config.classify.layer_decay if run.init else 1.0


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(dim=1) == labels).float().mean())


def _card(config: ExperimentConfig, run: RunContext, clouds: CloudSet) -> dict[str, Any]:
    tree = config.model_dump(mode="json")
    return {
        "kind": "classifier",
        "experiment": config.name,
        "arm": run.arm,
        "seed": config.seed,
        "fingerprint": run.fingerprint,
        "model": tree["model"],
        "classify": tree["classify"],
        "data": {**tree["data"], "digest": clouds.digest},
        "class_names": list(clouds.class_names),
    }


def _protocol(
    config: ExperimentConfig,
    run: RunContext,
    splits: Splits,
    selection: Selection,
    fitted: Fitted,
    loaded: str,
) -> dict[str, Any]:
    settings: ClassifyConfig = config.classify
    return {
        "encoder": f"pre-trained: {loaded}" if run.init else f"random weights, seed {config.seed}",
        "points": config.data.points,
        "train_sampling": "random subset of 1.17 times as many farthest points, new each epoch",
        "sampling": SAMPLING,
        "augmentation": settings.augment,
        "pooling": config.pooling,
        "label_smoothing": settings.label_smoothing,
        "layer_decay": _layer_decay(config, run),
        "epochs": settings.epochs,
        "steps": fitted.steps,
        "validation": splits.describe(),
        "selected_epoch": selection.epoch + 1,
        "selected_by": "validation accuracy, of equals the lower validation loss",
        "headline": "validation-selected weights",
        # one reading at the end, of two sets of weights; and one an epoch where asked for
        "test_reads": 1 + (settings.epochs if settings.test_every_epoch else 0),
    }
