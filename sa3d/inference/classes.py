"""A classifier, loaded: clouds, meshes and files in, the probability of every class out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sa3d.checkpoints.card import model_card
from sa3d.data.preprocessing import Axis
from sa3d.inference.clouds import Cloudlike, Reading
from sa3d.inference.predictor import Found, Predictor

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Classified(Found):
    """Classes of the clouds that could be read.

    Attributes:
        class_names: of the C columns.
        probabilities: (B, C), of the clouds in ``ids``; every row sums to 1.
    """

    class_names: tuple[str, ...]
    probabilities: NDArray[np.float32]

    @property
    def classes(self) -> tuple[str, ...]:
        """The likeliest class of each cloud."""
        return tuple(self.class_names[at] for at in self.probabilities.argmax(axis=1))


class ClassPredictor(Predictor[Classified]):
    """The classifier of an exported model, trained as a whole or taught on a frozen encoder.

    Args:
        folder: with ``model.safetensors`` and ``model.json``, or a run folder that has it.

    Raises:
        CheckpointError: no such model, a damaged one, of another task, or one that does not say
            how its clouds are prepared.
    """

    kinds = ("classifier", "taught")

    def __init__(self, folder: Path) -> None:
        from sa3d.checkpoints.load import load_classifier, load_taught

        taught = model_card(folder).get("kind") == "taught"
        self._classifier: nn.Module
        self._classifier, card = load_taught(folder) if taught else load_classifier(folder)
        super().__init__(card)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that the model knows."""
        return tuple(self.card["class_names"])

    def predict_all(self, clouds: Iterable[Cloudlike], *, up: Axis | None = None) -> Classified:
        """See the base class."""
        import torch

        ids: list[str] = []
        rows = [np.zeros((0, len(self.class_names)), dtype=np.float32)]
        reading = Reading(self.preprocessing, self.axis(up))
        with torch.inference_mode():
            for batch in reading.batches(clouds):
                ready = self.preprocessing.batch([each.cloud for each in batch])
                rows.append(self._classifier(ready).float().softmax(dim=1).numpy())
                ids += [each.id for each in batch]
        failures = tuple(reading.failures)
        return Classified(tuple(ids), failures, self.class_names, np.concatenate(rows))
