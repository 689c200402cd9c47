"""``explain.npz`` of a pre-trained model: what it finds hard, masks and rebuilds."""

from __future__ import annotations

from pathlib import Path

import torch

from sa3d.data.loader import Batches
from sa3d.data.store import CloudSet
from sa3d.engine.types import Progress
from sa3d.masking.base import largest
from sa3d.methods.base import Method
from sa3d.methods.explain import explain
from sa3d.runs.config import RunConfig
from sa3d.tasks.examples import example_rows
from sa3d.viz.explain import Explained, save_explain


def save_explanation(
    path: Path,
    method: Method,
    clouds: CloudSet,
    config: RunConfig,
    device: torch.device,
) -> None:
    """Explain the first test cloud of up to six classes, spread over the list of classes.

    The mask is that of the last epoch, where the curriculum stands at its end. A plain masked
    autoencoder has no scores: its ``gc`` is zero everywhere and nothing is ``hard``.
    """
    rows = example_rows(clouds)
    batch = next(
        Batches(
            clouds,
            rows,
            batch_size=len(rows),
            points=config.data.points,
            seed=config.spec.seed,
            shuffle=False,
            drop_last=False,
            sampling="fps",
            parts=bool(clouds.part_names),
        ).epoch(0)
    )
    points = batch.points.to(device)
    generator = torch.Generator(device).manual_seed(config.spec.seed)
    epochs = config.method.epochs
    last = epochs - 1
    found = explain(method, points, Progress(last, epochs, last, 1, generator))
    hard = torch.zeros_like(found.mask)
    scores = torch.zeros(found.mask.shape)
    if found.scores is not None:
        scores = found.scores
        hard = largest(scores, method.strategy.hard_budget(last, epochs)) & found.mask
    save_explain(
        path,
        Explained(
            points=points.cpu().numpy(),
            centers=found.centers.cpu().numpy(),
            patch_index=found.index.cpu().numpy(),
            gc=scores.float().cpu().numpy(),
            mask=found.mask.cpu().numpy(),
            hard=hard.cpu().numpy(),
            rebuilt=found.rebuilt.float().cpu().numpy(),
            labels=clouds.labels[rows],
            class_names=clouds.class_names,
            part_labels=None if batch.parts is None else batch.parts.numpy(),
        ),
    )
