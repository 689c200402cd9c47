"""The trainer of a task: batches of the training rows, augmented on the device."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sa3d.config.experiment import ExperimentConfig, OptimConfig
from sa3d.data import transforms
from sa3d.data.loader import Batch, Batches, Sampling
from sa3d.data.store import CloudSet
from sa3d.engine.checkpoint import Checkpoint
from sa3d.engine.loop import Trainer
from sa3d.engine.types import Progress
from sa3d.runs.context import RunContext

CHECKPOINT = "last.pt"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def trainer_of(
    task: str,
    method: nn.Module,
    config: ExperimentConfig,
    settings: OptimConfig,
    run: RunContext,
    clouds: CloudSet,
    rows: NDArray[np.int64],
    sampling: Sampling,
    *,
    training: str = "",
    **more: Any,
) -> Trainer:
    """A trainer of ``method`` on ``rows``, which resumes its checkpoint in the run folder.

    Args:
        task: its name, for the progress bar.
        method: what is trained, on the run's device.
        config: the experiment.
        settings: its section for this training.
        run: where and how.
        clouds: the data.
        rows: those that are trained on.
        sampling: see :class:`~sa3d.data.loader.Batches`.
        training: name of this training where a run folder holds several, such as ``fold-3``: its
            checkpoint is then ``last-fold-3.pt`` and its metrics are ``fold-3/train/loss`` etc.
        more: further fields of :class:`~sa3d.engine.loop.Trainer`.

    Raises:
        DataError: see :class:`~sa3d.data.loader.Batches`.
        ValueError: a name of a training that is no name for a file and a metric.
    """
    if training and not _NAME.fullmatch(training):
        raise ValueError(f"training={training!r}: use letters, digits and any of . _ -")
    file = f"last-{training}.pt" if training else CHECKPOINT
    batches = Batches(
        clouds,
        rows,
        batch_size=settings.batch_size,
        points=config.data.points,
        seed=config.seed,
        shuffle=True,
        drop_last=True,
        sampling=sampling,
        rank=run.processes.rank,
        world=run.processes.world,
    )
    augment = transforms.get(settings.augment)

    def prepare(batch: Batch, progress: Progress) -> Batch:
        points = batch.points.to(run.device, non_blocking=True)
        return batch._replace(
            points=augment(points, progress.generator),
            labels=batch.labels.to(run.device, non_blocking=True),
        )

    return Trainer(
        method,
        batches,
        settings,
        seed=config.seed,
        device=run.device,
        prepare=prepare,
        tracker=run.tracker,
        checkpoint=Checkpoint(run.run_dir / file, run.fingerprint),
        label="" if run.quiet else " ".join(filter(None, (task, run.arm, training))),
        processes=run.processes,
        training=training,
        **more,
    )
