"""Where the running statistics of fresh BatchNorm layers begin."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from sa3d.data.store import CloudSet
from sa3d.runs.config import RunConfig
from sa3d.tasks.evaluation import Ints, fixed_batches

_SETTLED: Final = 150  # steps after which nothing is left of how running statistics began


def first_batch(
    clouds: CloudSet, rows: Ints, config: RunConfig, count: int, *, parts: bool = False
) -> tuple[Tensor, Tensor]:
    """(points (B, N, 3), labels (B,)) of up to ``count`` of ``rows``, evenly spread over them: rows
    next to each other are often of one class.

    Args:
        parts: clouds of fewer points repeat some of them, as part segmentation has it.
    """
    spread = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(np.int64)
    (batch,) = fixed_batches(clouds, rows[spread], config, len(spread), parts=parts).epoch(0)
    return batch.points, batch.labels


@torch.no_grad()
def first_statistics(model: nn.Module, *inputs: Tensor) -> None:
    """Let BatchNorm layers with no or hardly any running statistics begin with those of ``inputs``.

    Otherwise they begin with mean 0 and variance 1 and come a tenth of the way nearer with each
    step. The true variance of small patches can be 1e-5; after the 60 steps of a short training
    the beginning would still outweigh it a hundred times, and a model would test at chance
    whatever it has learnt. After 150 steps, fewer than any published recipe takes, nothing of the
    beginning is left either way: layers that were pre-trained for so long keep what they have.
    Those of a shorter pre-training, as on a hundred clouds, do not.

    Args:
        model: its mode is restored.
        inputs: of its forward pass.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm1d)]
    momenta = [layer.momentum for layer in layers]
    training = model.training
    for layer in layers:
        seen = layer.num_batches_tracked
        fresh = seen is not None and int(seen) < _SETTLED
        layer.momentum = 1.0 if fresh else 0.0
    model.train()
    model(*inputs)
    model.train(training)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
