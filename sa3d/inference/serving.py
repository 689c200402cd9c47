"""A registered model, loaded by MLflow: clouds in, frozen features out.

MLflow finds :func:`_load_pyfunc` by name in every registered model
(:mod:`sa3d.tracking.model_registry`):

    model = mlflow.pyfunc.load_model("models:/sa3d-demo-sa3df@candidate")
    features = model.predict(points)  # (B, n, 3) or (n, 3) -> (B, D)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa3d.errors import DataError
from sa3d.inference.encoder import Encoder


class FeatureModel:
    """An encoder with the method that MLflow calls.

    Args:
        folder: as of :class:`~sa3d.inference.encoder.Encoder`.

    Raises:
        CheckpointError: as there.
    """

    def __init__(self, folder: Path) -> None:
        self._encoder = Encoder(folder)

    def predict(
        self,
        model_input: NDArray[Any] | Sequence[NDArray[Any]],
        params: dict[str, Any] | None = None,
    ) -> NDArray[np.float32]:
        """Features of clouds, each reduced and normalised as in evaluation.

        Args:
            model_input: (B, n, 3), (n, 3), or a list of B clouds (n, 3) of different sizes.
            params: MLflow's; there are none.

        Returns:
            (B, D), B = 1 for a single cloud.

        Raises:
            DataError: another shape, points that are not finite or all equal; a text: a server
                opens no file for whoever asks.
        """
        if any(isinstance(each, str | Path) for each in (model_input, *model_input)):
            raise DataError("expected points, got a text")
        return self._encoder.embed(model_input)


def _load_pyfunc(data_path: str) -> FeatureModel:
    """MLflow's entry point; ``data_path`` is the exported model's folder inside the artifact."""
    return FeatureModel(Path(data_path))
