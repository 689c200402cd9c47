"""What a segmentation model does on fixed rows: scores, loss, and a few clouds for pictures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sa3d.data.loader import Batch
from sa3d.data.store import CloudSet
from sa3d.errors import DataError
from sa3d.metrics.families import family_mean
from sa3d.metrics.segmentation import PartMeter, PartScores, allowed_parts, restricted_argmax
from sa3d.models.downstream import Segmenter
from sa3d.runs.config import RunConfig
from sa3d.tasks.evaluation import Ints, fixed_batches
from sa3d.tasks.examples import example_rows
from sa3d.tasks.selection import Measured
from sa3d.viz.segmented import Segmented


class Read(NamedTuple):
    """Scores on some rows, and the mean cross-entropy over all their points."""

    scores: PartScores
    loss: float


def check_parts(clouds: CloudSet) -> None:
    """Refuse a data set that cannot be segmented.

    Raises:
        DataError: no part labels, or one that the category of its cloud may not contain.
    """
    allowed = allowed_parts(clouds.class_parts, len(clouds.part_names))
    for row, label in enumerate(clouds.labels.tolist()):
        found = np.unique(clouds.parts(row))
        if found[-1] >= allowed.shape[1] or not allowed[label, found].all():
            raise DataError(
                f"cloud '{clouds.ids[row]}' of {clouds.path} has parts {found.tolist()}, but "
                f"'{clouds.class_names[label]}' may contain {list(clouds.class_parts[label])} "
                "alone; prepare the data set again"
            )


class PartReader:
    """Reads fixed rows in evaluation mode and fp32, batch by batch: no logits are kept.

    Args:
        clouds: the data.
        config: of the run.
        batch_size: clouds a forward pass.
        device: where models lie.
    """

    def __init__(
        self, clouds: CloudSet, config: RunConfig, batch_size: int, device: torch.device
    ) -> None:
        self._clouds, self._config, self._device = clouds, config, device
        self._batch_size = batch_size
        self._kept: dict[bytes, list[Batch]] = {}
        self._allowed = allowed_parts(clouds.class_parts, len(clouds.part_names))

    def measure(self, segmenter: Segmenter, rows: Ints) -> Measured:
        """Both mIoU and cross-entropy on ``rows``, whose points are kept for the next time."""
        found = self.read(segmenter, rows, keep=True)
        return Measured(found.scores.instance, found.loss, found.scores.category)

    def validate(self, segmenter: Segmenter, rows: Ints) -> Measured:
        """As :meth:`measure`, but in the instance mIoU each family of shapes counts once."""
        found = self.read(segmenter, rows, keep=True)
        score = family_mean(found.scores.per_cloud, self._clouds.family[rows])
        return Measured(score, found.loss, found.scores.category)

    @torch.no_grad()
    def read(self, segmenter: Segmenter, rows: Ints, *, keep: bool = False) -> Read:
        """Scores and loss on ``rows``; the segmenter's mode is restored.

        Args:
            keep: hold the sampled clouds in memory for the next time.
        """
        meter, total, points = PartMeter(self._allowed), 0.0, 0
        training = segmenter.training
        segmenter.eval()
        for batch in self._batches(rows, keep):
            assert batch.parts is not None
            logits, predicted = self._forward(segmenter, batch)
            truth = batch.parts.to(self._device)
            loss = F.cross_entropy(logits.flatten(0, 1), truth.flatten(), reduction="sum")
            total, points = total + float(loss), points + truth.numel()
            meter.add(batch.parts.numpy(), predicted.cpu().numpy(), batch.category.numpy())
        segmenter.train(training)
        return Read(meter.scores(), total / points)

    @torch.no_grad()
    def examples(self, segmenter: Segmenter) -> Segmented:
        """A few test clouds, true and predicted, for the pictures of the report."""
        clouds, rows = self._clouds, example_rows(self._clouds)
        training = segmenter.training
        segmenter.eval()
        (batch,) = fixed_batches(clouds, rows, self._config, len(rows), parts=True).epoch(0)
        _, predicted = self._forward(segmenter, batch)
        segmenter.train(training)
        assert batch.parts is not None
        return Segmented(
            points=batch.points.numpy(),
            truth=batch.parts.numpy(),
            predicted=predicted.cpu().numpy(),
            labels=clouds.labels[rows],
            class_names=clouds.class_names,
            part_names=clouds.part_names,
            class_parts=clouds.class_parts,
        )

    def _batches(self, rows: Ints, keep: bool) -> Iterable[Batch]:
        kept = self._kept.get(rows.tobytes())
        if kept is not None:
            return kept
        batches = fixed_batches(self._clouds, rows, self._config, self._batch_size, parts=True)
        if not keep:
            return batches.epoch(0)
        return self._kept.setdefault(rows.tobytes(), list(batches.epoch(0)))

    def _forward(self, segmenter: Segmenter, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits (B, N, P), and the likeliest part (B, N) among those of the cloud's category."""
        category = batch.category.to(self._device)
        logits = segmenter(batch.points.to(self._device), category)
        allowed = torch.from_numpy(self._allowed).to(self._device)
        return logits, restricted_argmax(logits, category, allowed)
