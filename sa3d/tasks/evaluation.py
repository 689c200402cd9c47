"""What the downstream tasks share: the encoder they start from, clouds read in a fixed way."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sa3d.checkpoints.export import load_pretrained
from sa3d.data.loader import Batches
from sa3d.data.store import CloudSet
from sa3d.models import build_backbone
from sa3d.models.backbone import Backbone
from sa3d.models.loading import load_prefixed
from sa3d.runs.config import RunConfig
from sa3d.runs.context import RunContext
from sa3d.utils.progress import ProgressBar

Ints = NDArray[np.int64]
SAMPLING = "farthest-point sampling from the first stored point"


def frozen_encoder(config: RunConfig, context: RunContext) -> Backbone:
    """The backbone that a run starts from, in ``eval()`` on its device.

    Raises:
        CheckpointError: the model is not there or does not fit the settings.
    """
    backbone = build_backbone(config.model)
    if context.start is not None:
        state = load_pretrained(context.start, config.model, encoder_only=True)
        load_prefixed(backbone.encoder, state, "backbone.encoder.")
    return backbone.to(context.device).eval()


def layer_decay(asked: float, context: RunContext) -> float:
    """The layer decay that the settings ask for; 1 without a pre-trained encoder.

    Layer decay keeps what pre-training taught the lower blocks; random weights hold nothing that
    would be worth keeping.
    """
    return asked if context.start else 1.0


def fixed_batches(
    clouds: CloudSet, rows: Ints, config: RunConfig, batch_size: int, *, parts: bool = False
) -> Batches:
    """All of ``rows``, in order, each cloud reduced to ``data.points`` by farthest-point
    sampling: the same points every time, no augmentation.

    Args:
        parts: batches have part labels, and clouds of fewer points repeat some of them.
    """
    return Batches(
        clouds,
        rows,
        batch_size=batch_size,
        points=config.data.points,
        seed=config.spec.seed,
        shuffle=False,
        drop_last=False,
        sampling="fps",
        parts=parts,
        repeat=parts,
    )


def shown(
    batches: Batches, device: torch.device, label: str, quiet: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """(points (B, N, 3), labels (B,)) of every batch on ``device``, with a progress bar."""
    with ProgressBar(label, len(batches), "batches", quiet=quiet) as bar:
        for batch in batches.epoch(0):
            yield batch.points.to(device), batch.labels.to(device)
            bar.update()
