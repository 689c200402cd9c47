"""Choosing the epoch of a training by validation clouds; test is read once, at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sa3d.data.loader import Batch
from sa3d.data.store import CloudSet
from sa3d.errors import TrainingError
from sa3d.metrics import names as keys
from sa3d.metrics.families import family_mean
from sa3d.models.downstream import Classifier
from sa3d.runs.config import RunConfig
from sa3d.tasks.evaluation import Ints, fixed_batches
from sa3d.tracking.journal import Tracker


class Measured(NamedTuple):
    """What a model does on some clouds.

    Attributes:
        score: by which epochs are compared; higher is better.
        loss: cross-entropy.
        category: of part segmentation the category mIoU beside the score, which is the instance
            mIoU; else None.
    """

    score: float
    loss: float
    category: float | None = None


class Reader:
    """Logits of fixed rows, in evaluation mode and fp32."""

    def __init__(
        self, clouds: CloudSet, config: RunConfig, batch_size: int, device: torch.device
    ) -> None:
        self._clouds, self._config, self._device = clouds, config, device
        self._batch_size = batch_size
        self._kept: dict[bytes, list[Batch]] = {}

    def measure(self, classifier: Classifier, rows: Ints) -> Measured:
        """Accuracy and cross-entropy on ``rows``."""
        logits, labels = self.logits(classifier, rows)
        return Measured(accuracy(logits, labels), float(F.cross_entropy(logits, labels)))

    def validate(self, classifier: Classifier, rows: Ints) -> Measured:
        """As :meth:`measure`, but in the accuracy each family of shapes counts once."""
        logits, labels = self.logits(classifier, rows)
        right = (logits.argmax(dim=1) == labels).numpy()
        score = family_mean(right, self._clouds.family[rows])
        return Measured(score, float(F.cross_entropy(logits, labels)))

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
            batches = fixed_batches(self._clouds, rows, self._config, self._batch_size).epoch(0)
            if keep:
                batches = self._kept[rows.tobytes()] = list(batches)
        training = classifier.training
        classifier.eval()
        found = [(classifier(b.points.to(self._device)).float().cpu(), b.labels) for b in batches]
        classifier.train(training)
        return torch.cat([one for one, _ in found]), torch.cat([two for _, two in found])


class Selection:
    """Reads validation after every epoch and keeps the best weights; kept in checkpoints.

    Args:
        model: what is trained.
        validate: measures it on the validation clouds, and leaves its mode as it was.
        measure: likewise on the test clouds.
        tracker: gets the metrics.
        score: name of the validation score.
        val: rows of the validation clouds; None: nothing is chosen, ``weights`` stay empty.
        test: rows that are also read after every epoch, where the extra `best on test` is asked
            for; else None.
        tested: name of the score on ``test`` after an epoch.
    """

    def __init__(
        self,
        model: nn.Module,
        validate: Callable[[Ints], Measured],
        measure: Callable[[Ints], Measured],
        tracker: Tracker,
        score: str,
        val: Ints | None,
        test: Ints | None,
        tested: str = keys.TEST_EPOCH,
    ) -> None:
        self._model, self._tracker = model, tracker
        self._read_val, self._measure = validate, measure
        self._name, self._val, self._test, self._tested = score, val, test, tested
        self.epoch = -1
        self.score = (-1.0, -np.inf)
        self.weights: dict[str, Tensor] = {}
        self.best_on_test: Measured | None = None

    def __call__(self, epoch: int, step: int) -> None:
        """Read validation (and, where the experiment asks for it, test) after ``epoch``."""
        values = {} if self._val is None else self._validate(self._val, epoch)
        if self._test is not None:
            tested = self._measure(self._test)
            if self.best_on_test is None or tested.score > self.best_on_test.score:
                self.best_on_test = tested
            values[self._tested] = tested.score
            if tested.category is not None:
                values[keys.TEST_MIOU_CATEGORY_EPOCH] = tested.category
        if values:
            self._tracker.metrics(values, step)

    def _validate(self, val: Ints, epoch: int) -> dict[str, float]:
        """Validation score and loss; weights better than those before are kept."""
        score, loss, category = self._read_val(val)
        if not np.isfinite(loss):
            raise TrainingError(
                f"{keys.VAL_LOSS} became {loss} after epoch {epoch}; try a lower lr or a clip"
            )
        # small validation splits tie often: of equal scores the lower loss
        if (score, -loss) > self.score:
            self.score, self.epoch = (score, -loss), epoch
            self.weights = {k: v.clone() for k, v in self._model.state_dict().items()}
        values = {self._name: score, keys.VAL_LOSS: loss}
        return values if category is None else values | {keys.VAL_MIOU_CATEGORY: category}

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {
            "epoch": self.epoch,
            "score": self.score,
            "weights": self.weights,
            "best_on_test": self.best_on_test and tuple(self.best_on_test),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.epoch, self.weights = state["epoch"], state["weights"]
        self.score, best = tuple(state["score"]), state["best_on_test"]
        self.best_on_test = best and Measured(*best)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of rows whose largest logit is at their label."""
    return float((logits.argmax(dim=1) == labels).double().mean())
