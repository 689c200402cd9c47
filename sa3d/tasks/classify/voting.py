"""The published test-time voting: several random views of a cloud, their logits averaged.

A pass sees each test cloud ten times: a random subset of N out of 1.17 N farthest points, scaled
and shifted at random, the farthest points the same in every view. The class is that of the
largest mean logit. Published is the best of 299 passes; that is chosen on test, so mean and
standard deviation over the passes stand beside it. Subsets, scale and shift are drawn for every
cloud by itself (published: one subset for a whole batch).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from sa3d.data import transforms
from sa3d.data.loader import pool_size
from sa3d.data.preprocessing import Preprocessing, farthest
from sa3d.data.store import CloudSet, Points
from sa3d.errors import ConfigError
from sa3d.metrics import names as keys
from sa3d.models.downstream import Classifier
from sa3d.runs.config import RunConfig
from sa3d.runs.context import RunContext
from sa3d.tasks.classify.task import ClassifyConfig
from sa3d.tasks.evaluation import Ints
from sa3d.utils.progress import ProgressBar

VIEWS: Final = 10
HOW: Final = (
    f"{{}} passes with the validation-selected weights; a pass averages the logits of {VIEWS} "
    "views: random subsets of 1.17 times as many farthest points, scaled and shifted at random"
)
_TOGETHER = 64  # clouds that are sampled at a time
_VOTES = 3  # keeps these draws apart from others of the same seed


def check_votes(settings: ClassifyConfig, context: RunContext) -> None:
    """Refuse voting under ``torchrun``: the other processes would give up waiting for the main one.

    Raises:
        ConfigError: voting is asked of a run of several processes.
    """
    if settings.votes and context.processes.world > 1:
        raise ConfigError(
            f"votes={settings.votes} with {context.processes.world} processes: voting runs in one; "
            "start this run without torchrun, or set votes to 0"
        )


def vote(
    classifier: Classifier,
    clouds: CloudSet,
    rows: Ints,
    config: RunConfig,
    settings: ClassifyConfig,
    context: RunContext,
) -> list[float]:
    """Accuracy of each of ``settings.votes`` passes over ``rows``; the same for the same seed.

    The classifier is left in evaluation mode.
    """
    classifier.eval()
    views = _Views(clouds, rows, config.data.points, config.spec.seed, context.device)
    labels = torch.from_numpy(clouds.labels[rows])
    chunks = np.array_split(np.arange(len(rows)), -(-len(rows) // settings.batch_size))
    label = f"{config.spec.name}: voting"
    total = settings.votes * len(chunks)
    found = []
    with ProgressBar(label, total, "batches", quiet=context.quiet) as bar, torch.no_grad():
        for _ in range(settings.votes):
            right = 0
            for chunk in chunks:
                seen = [classifier(views.draw(chunk)).float() for _ in range(VIEWS)]
                predicted = torch.stack(seen).mean(0).argmax(1).cpu()
                right += int((predicted == labels[chunk]).sum())
                bar.update()
            found.append(right / len(rows))
    return found


def vote_metrics(passes: Sequence[float]) -> dict[str, float]:
    """Mean, sample standard deviation (of two passes or more) and maximum."""
    found = {keys.VOTE_MEAN: float(np.mean(passes)), keys.VOTE_MAX: float(max(passes))}
    if len(passes) > 1:
        found[keys.VOTE_SD] = float(np.std(passes, ddof=1))
    return found


class _Views:
    """Random views of some clouds, out of farthest points that are chosen once."""

    def __init__(
        self, clouds: CloudSet, rows: Ints, points: int, seed: int, device: torch.device
    ) -> None:
        self._preprocessing = Preprocessing.of(clouds, points)
        self._pools: list[Points] = []
        for some in np.array_split(rows, -(-len(rows) // _TOGETHER)):
            whole = [self._preprocessing.before(clouds.cloud(row)) for row in some.tolist()]
            index = farthest(whole, pool_size(points))
            self._pools += [c.take(i, axis=0) for c, i in zip(whole, index, strict=True)]
        self._draws = np.random.default_rng((seed, _VOTES))
        self._augment = transforms.get("scale_translate")
        self._generator = torch.Generator(device).manual_seed(seed)
        self._device = device

    def draw(self, chunk: Ints) -> Tensor:
        """(B, N, 3), a new view of each cloud of ``chunk``, numbers into the rows."""
        count = self._preprocessing.points
        pools = [self._pools[number] for number in chunk.tolist()]
        chosen = [p[self._draws.choice(len(p), count, replace=False)] for p in pools]
        points = self._preprocessing.after(torch.from_numpy(np.stack(chosen)))
        return self._augment(points.to(self._device), self._generator)
