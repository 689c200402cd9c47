"""Running statistics of fresh BatchNorm layers: short trainings are tested with real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from task_runs import context, do, run_of, tiny_clouds
from torch import nn

from sa3d.checkpoints.load import load_classifier
from sa3d.config.experiment import ExperimentConfig
from sa3d.data.store import TRAIN
from sa3d.layers.batch_norm import BatchNorm
from sa3d.tasks.first_statistics import first_batch, first_statistics

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(("steps", "kept"), [(1, False), (149, False), (150, True)])
def test_fresh_batch_norm_begins_with_real_statistics(steps: int, kept: bool) -> None:
    """Of layers whose inputs have a variance far from 1; what was trained long enough stays."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trained, self.fresh = BatchNorm(3), nn.BatchNorm1d(3)
            for _ in range(steps):
                self.trained(torch.randn(8, 3) - 2.0)
            self.eval()

        def forward(self, points: torch.Tensor) -> torch.Tensor:
            rows: torch.Tensor = self.fresh(1e-3 * self.trained(points.flatten(0, 1)) + 5.0)
            return rows

    model = Model()
    before = {name: value.clone() for name, value in model.trained.state_dict().items()}
    points = torch.randn(4, 16, 3)
    first_statistics(model, points)
    seen = (
        before
        if kept
        else {
            "running_mean": points.flatten(0, 1).mean(0),
            "running_var": points.flatten(0, 1).var(0),
        }
    )
    assert torch.allclose(model.trained.running_mean, seen["running_mean"], atol=1e-6)
    assert torch.allclose(model.trained.running_var, seen["running_var"], atol=1e-6)
    assert torch.allclose(model.fresh.running_mean, torch.full((3,), 5.0), atol=1e-5)
    assert torch.allclose(model.fresh.running_var, torch.full((3,), 1e-6 * 64 / 63), rtol=0.05)
    assert not model.training
    assert (model.trained.momentum, model.fresh.momentum) == (0.1, 0.1)


def test_the_first_batch_is_spread_over_the_classes(
    tiny: Path, tiny_config: ExperimentConfig
) -> None:
    clouds = tiny_clouds(tiny)
    rows = clouds.indices(TRAIN)
    points, labels = first_batch(clouds, rows, run_of(tiny_config, "classify"), 32)
    assert points.shape == (32, 64, 3)
    assert len(set(labels.tolist())) == clouds.num_classes
    few, _ = first_batch(clouds, rows[:3], run_of(tiny_config, "classify"), 32)
    assert len(few) == 3


def test_a_training_of_few_steps_is_tested_with_real_statistics(
    tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    """The variance 1 that fresh layers begin with would still be seen after these steps."""
    run = run_of(tiny_config, "classify", "scratch", epochs=1, batch_size=32)
    do(run, context(tiny, tmp_path))
    model, _ = load_classifier(tmp_path)
    layers = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm1d)]
    variances = [float(layer.running_var.median()) for layer in layers]  # type: ignore[union-attr]
    assert len(variances) >= 4
    assert np.max(variances) < 0.3
