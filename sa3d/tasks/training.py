"""The trainer of a task: batches of the training rows, augmented on the device."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sa3d.config.optim import OptimConfig
from sa3d.data import transforms
from sa3d.data.ahead import Ahead
from sa3d.data.loader import Batch, Batches, Sampling
from sa3d.data.store import CloudSet
from sa3d.engine.checkpoint import Checkpoint
from sa3d.engine.loop import Trainer
from sa3d.engine.types import Progress, Source
from sa3d.runs.config import RunConfig
from sa3d.runs.context import RunContext

CHECKPOINT = "last.pt"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def trainer_of(
    method: nn.Module,
    config: RunConfig,
    settings: OptimConfig,
    context: RunContext,
    clouds: CloudSet,
    rows: NDArray[np.int64],
    sampling: Sampling,
    *,
    parts: bool = False,
    **more: Any,
) -> Trainer:
    """:func:`trainer_on` the batches of some rows of a processed data set.

    Args:
        method, config, settings, context: see :func:`trainer_on`.
        clouds: the data.
        rows: those that are trained on.
        sampling: see :class:`~sa3d.data.loader.Batches`.
        parts: batches have part labels, and clouds of fewer points repeat some of them.
        more: further arguments of :func:`trainer_on`.

    Raises:
        DataError: see :class:`~sa3d.data.loader.Batches`.
    """
    batches = Batches(
        clouds,
        rows,
        batch_size=settings.batch_size,
        points=config.data.points,
        seed=config.spec.seed,
        shuffle=True,
        drop_last=True,
        sampling=sampling,
        parts=parts,
        repeat=parts,
        rank=context.processes.rank,
        world=context.processes.world,
    )
    ahead = Ahead(batches, one_core=context.device.type == "cpu")
    return trainer_on(method, config, settings, context, ahead, **more)


def trainer_on(
    method: nn.Module,
    config: RunConfig,
    settings: OptimConfig,
    context: RunContext,
    batches: Source,
    *,
    training: str = "",
    save_epochs: bool = True,
    **more: Any,
) -> Trainer:
    """A trainer of ``method`` on ``batches``, which resumes its checkpoint in the run folder.

    Args:
        method: what is trained, on the run's device.
        config: of the run.
        settings: of this training.
        context: where and how.
        batches: of :class:`~sa3d.data.loader.Batch`.
        training: name of this training where a run folder holds several, such as ``fold-3``: its
            checkpoint is then ``last-fold-3.pt`` and its metrics are ``fold-3/train/loss`` etc.
        save_epochs: see :class:`~sa3d.engine.checkpoint.Checkpoint`.
        more: further fields of :class:`~sa3d.engine.loop.Trainer`.

    Raises:
        ValueError: a name of a training that is no name for a file and a metric.
    """
    if training and not _NAME.fullmatch(training):
        raise ValueError(f"training={training!r}: use letters, digits and any of . _ -")
    file = f"last-{training}.pt" if training else CHECKPOINT
    augment = transforms.get(settings.augment)

    def prepare(batch: Batch, progress: Progress) -> Batch:
        points = batch.points.to(context.device, non_blocking=True)
        return batch._replace(
            points=augment(points, progress.generator),
            labels=batch.labels.to(context.device, non_blocking=True),
            parts=batch.parts if batch.parts is None else batch.parts.to(context.device),
        )

    return Trainer(
        method,
        batches,
        settings,
        seed=config.spec.seed,
        device=context.device,
        prepare=prepare,
        tracker=context.tracker,
        checkpoint=Checkpoint(context.folder / file, context.fingerprint, epochs=save_epochs),
        label="" if context.quiet else " ".join(filter(None, (config.spec.name, training))),
        processes=context.processes,
        training=training,
        **more,
    )
