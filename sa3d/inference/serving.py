"""A registered model, loaded: clouds in, frozen features out.

MLflow finds :func:`_load_pyfunc` by name in every registered model
(:mod:`sa3d.tracking.model_registry`):

    model = mlflow.pyfunc.load_model("models:/sa3d-demo-method@candidate")
    features = model.predict(points)  # (B, N, 3) or (N, 3) -> (B, D)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa3d.data.store import check_cloud, unit_sphere
from sa3d.errors import DataError

BATCH = 64  # clouds a forward pass


class FeatureModel:
    """The encoder of an exported model, on the CPU.

    Args:
        folder: with ``model.safetensors`` and ``model.json``.

    Raises:
        CheckpointError: no such model, or a damaged one.
    """

    def __init__(self, folder: Path) -> None:
        from sa3d.checkpoints.load import load_encoder, model_of

        self._backbone, self.card = load_encoder(folder)
        self._least = model_of(self.card, folder).least_points

    def predict(
        self, model_input: NDArray[Any], params: dict[str, Any] | None = None
    ) -> NDArray[np.float32]:
        """Features of clouds, each first centred and scaled to the unit sphere.

        Args:
            model_input: (B, N, 3) or (N, 3).
            params: MLflow's; there are none.

        Returns:
            (B, D), B = 1 for a single cloud.

        Raises:
            DataError: another shape, points that are not finite or all equal, or too few.
        """
        import torch

        clouds = np.asarray(model_input, dtype=np.float32)
        if clouds.ndim == 2:
            clouds = clouds[None]
        if clouds.ndim != 3 or clouds.shape[-1] != 3 or not len(clouds):
            raise DataError(f"expected clouds (B, N, 3) or (N, 3), got {np.shape(model_input)}")
        if clouds.shape[1] < self._least:
            raise DataError(
                f"clouds of {clouds.shape[1]} points; this model needs at least {self._least}"
            )
        ready = np.stack([unit_sphere(check_cloud(c, str(i))) for i, c in enumerate(clouds)])
        with torch.inference_mode():
            found = [
                self._backbone.features(torch.from_numpy(ready[start : start + BATCH])).numpy()
                for start in range(0, len(ready), BATCH)
            ]
        return np.concatenate(found)


def _load_pyfunc(data_path: str) -> FeatureModel:
    """MLflow's entry point; ``data_path`` is the exported model's folder inside the artifact."""
    return FeatureModel(Path(data_path))
