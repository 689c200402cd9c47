"""A registered model, loaded: clouds in, frozen features out.

MLflow finds :func:`_load_pyfunc` by name in every registered model
(:mod:`sa3d.tracking.model_registry`):

    model = mlflow.pyfunc.load_model("models:/sa3d-demo-sa3df@candidate")
    features = model.predict(points)  # (B, n, 3) or (n, 3) -> (B, D)
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa3d.data.preprocessing import Preprocessing
from sa3d.data.store import Points, check_cloud
from sa3d.errors import DataError

BATCH = 64  # clouds a forward pass
DENSITY = 4.0
"""Clouds with more than this many times the points of the training clouds, or fewer by this
factor, are warned of: farthest points of a denser or sparser surface lie differently."""

_log = logging.getLogger(__name__)


class FeatureModel:
    """The encoder of an exported model, on the CPU.

    Args:
        folder: with ``model.safetensors`` and ``model.json``.

    Raises:
        CheckpointError: no such model, a damaged one, or one that does not say how its clouds
            are prepared.
    """

    def __init__(self, folder: Path) -> None:
        from sa3d.checkpoints.load import load_encoder

        self._backbone, self.card = load_encoder(folder)
        self.preprocessing = Preprocessing.from_json(self.card.get("preprocessing"))
        self._warned = False

    def predict(
        self,
        model_input: NDArray[Any] | Sequence[NDArray[Any]],
        params: dict[str, Any] | None = None,
    ) -> NDArray[np.float32]:
        """Features of clouds, each reduced and normalised as in evaluation.

        Args:
            model_input: (B, n, 3), (n, 3), or a list of B clouds (n, 3) of different sizes; n is
                at least the number of points that the model sees.
            params: MLflow's; there are none.

        Returns:
            (B, D), B = 1 for a single cloud.

        Raises:
            DataError: another shape, points that are not finite or all equal, or too few.
        """
        import torch

        clouds = self._checked(model_input)
        found = []
        with torch.inference_mode():
            for start in range(0, len(clouds), BATCH):
                ready = self.preprocessing.batch(clouds[start : start + BATCH])
                found.append(self._backbone.features(ready).numpy())
        return np.concatenate(found)

    def _checked(self, model_input: NDArray[Any] | Sequence[NDArray[Any]]) -> list[Points]:
        if not isinstance(model_input, np.ndarray):
            clouds = list(model_input)
        elif model_input.ndim in (2, 3):
            clouds = list(model_input) if model_input.ndim == 3 else [model_input]
        else:
            raise DataError(f"expected clouds (B, n, 3) or (n, 3), got shape {model_input.shape}")
        if not clouds:
            raise DataError("expected one cloud or more, got none")
        checked = [check_cloud(cloud, str(row)) for row, cloud in enumerate(clouds)]
        for row, cloud in enumerate(checked):
            if len(cloud) < self.preprocessing.points:
                raise DataError(
                    f"cloud '{row}' has {len(cloud)} points; this model needs at least "
                    f"{self.preprocessing.points}"
                )
        self._warn_of_density(checked)
        return checked

    def _warn_of_density(self, clouds: list[Points]) -> None:
        stored = self.preprocessing.stored_points
        if stored is None or self._warned:
            return
        for row, cloud in enumerate(clouds):
            if not stored / DENSITY <= len(cloud) <= stored * DENSITY:
                self._warned = True
                _log.warning(
                    "cloud '%d' has %d points, the model was trained on clouds of %d: features "
                    "may differ from those of training (said once)",
                    row,
                    len(cloud),
                    stored,
                )
                return


def _load_pyfunc(data_path: str) -> FeatureModel:
    """MLflow's entry point; ``data_path`` is the exported model's folder inside the artifact."""
    return FeatureModel(Path(data_path))
