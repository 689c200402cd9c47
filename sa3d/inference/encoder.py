"""An encoder, loaded: clouds, meshes and files in, frozen features out.

    encoder = sa3d.load_encoder()
    features = encoder.embed(["a.ply", "b.stl", points])  # (3, D)

What the model sees of a cloud is made by :mod:`sa3d.data.preprocessing`, as in training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sa3d.checkpoints.card import ENCODERS
from sa3d.data.preprocessing import Axis
from sa3d.inference.clouds import Cloudlike, Reading
from sa3d.inference.locating import model_folder
from sa3d.inference.predictor import Found, Predictor


@dataclass(frozen=True)
class Embedded(Found):
    """Features of the clouds that could be read.

    Attributes:
        features: (B, D), of the clouds in ``ids``.
    """

    features: NDArray[np.float32]


class Encoder(Predictor[Embedded]):
    """The encoder of an exported model.

    Args:
        folder: with ``model.safetensors`` and ``model.json``, or a run folder that has it.

    Raises:
        CheckpointError: no such model, a damaged one, of another task, or one that does not say
            how its clouds are prepared.
    """

    kinds = ENCODERS

    def __init__(self, folder: Path) -> None:
        from sa3d.checkpoints.load import load_encoder

        self._backbone, card = load_encoder(folder)
        super().__init__(card)

    def embed(
        self, clouds: Cloudlike | Sequence[Cloudlike], *, up: Axis | None = None
    ) -> NDArray[np.float32]:
        """Features of clouds, in their order: (B, D), B = 1 for a single cloud.

        Arguments and errors are those of :meth:`predict`.
        """
        return self.predict(clouds, up=up).features

    def predict_all(
        self,
        clouds: Iterable[Cloudlike],
        *,
        up: Axis | None = None,
        seen: Callable[[NDArray[np.float32]], None] | None = None,
    ) -> Embedded:
        """See the base class.

        Args:
            clouds, up: see there.
            seen: gets, batch by batch, the points (B, N, 3) that the model saw of them, y up.
        """
        import torch

        ids: list[str] = []
        parts = [np.zeros((0, self._backbone.dim), dtype=np.float32)]
        reading = Reading(self.preprocessing, self.axis(up))
        with torch.inference_mode():
            for batch in reading.batches(clouds):
                ready = self.preprocessing.batch([each.cloud for each in batch])
                features = self._backbone.features(ready).numpy()
                if seen is not None:
                    seen(ready.numpy())
                parts = [features] if not ids else [*parts, features]
                ids += [each.id for each in batch]
        return Embedded(tuple(ids), tuple(reading.failures), np.concatenate(parts))

    embed_all = predict_all


def load_encoder(model: str | Path | None = None) -> Encoder:
    """An encoder, ready for :meth:`Encoder.embed`.

    Args:
        model: a run folder of a pre-training or its ``model`` folder; a registered model, as
            ``models:/NAME@ALIAS``; None: the one that comes with this package.

    Raises:
        CheckpointError: no such model, a damaged one, or of another task.
        UserError: the registry has none of that name, or does not answer.
    """
    with model_folder(model) as folder:
        return Encoder(folder)
