"""Numbers of part segmentation, added up batch by batch: no logits are kept.

The definitions are ShapeNetPart's. Points are assigned to parts of their cloud's true category
alone. The mean IoU of a cloud is taken over the parts of its category; a part that is in neither
truth nor prediction counts as 1. Instance mIoU is the mean over clouds; category mIoU is the mean
over categories of the mean over their clouds (not over parts).

B clouds, N points a cloud, C categories, P parts of all categories together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def allowed_parts(class_parts: Sequence[Sequence[int]], num_parts: int) -> Flags:
    """(C, P) True where a cloud of the category may contain the part.

    Raises:
        ValueError: a part out of range.
    """
    table = np.zeros((len(class_parts), num_parts), dtype=np.bool_)
    for category, parts in enumerate(class_parts):
        if any(not 0 <= part < num_parts for part in parts):
            raise ValueError(f"parts {list(parts)} of category {category}: there are {num_parts}")
        table[category, list(parts)] = True
    return table


def restricted_argmax(logits: Tensor, category: Tensor, allowed: Tensor) -> Tensor:
    """The likeliest part of each point among those that its cloud's category may contain.

    Args:
        logits: (B, N, P). category: (B,) int64.
        allowed: (C, P) bool, every row with at least one True.

    Returns:
        (B, N) int64.
    """
    elsewhere = ~allowed[category].unsqueeze(1)
    return logits.masked_fill(elsewhere, float("-inf")).argmax(dim=2)


@dataclass(frozen=True)
class PartScores:
    """What a model did on S clouds.

    Attributes:
        per_cloud: (S,) mean IoU of each cloud, in the order in which they were added.
        per_category: (C,) mean of those over the clouds of a category; NaN without clouds.
        clouds: (C,) clouds of each category.
        per_part: (P,) IoU of a part over the points of all clouds together; NaN where it is in
            neither truth nor prediction.
        confusion: (P, P) points by true (row) and predicted part.
    """

    per_cloud: Floats
    per_category: Floats
    clouds: Ints
    per_part: Floats
    confusion: Ints

    @property
    def instance(self) -> float:
        """Instance mIoU: the mean over clouds."""
        return float(self.per_cloud.mean())

    @property
    def category(self) -> float:
        """Category mIoU: the mean over the categories that have clouds."""
        return float(self.per_category[self.clouds > 0].mean())

    @property
    def point_accuracy(self) -> float:
        """Share of points whose part is right."""
        return float(self.confusion.trace() / self.confusion.sum())


class PartMeter:
    """Adds up what :class:`PartScores` holds.

    Args:
        allowed: see :func:`allowed_parts`.
    """

    def __init__(self, allowed: Flags) -> None:
        self._allowed = allowed
        parts = allowed.shape[1]
        self._confusion = np.zeros((parts, parts), dtype=np.int64)
        self._per_cloud: list[Floats] = []
        self._category: list[Ints] = []

    def add(self, truth: Ints, predicted: Ints, category: Ints) -> None:
        """The next clouds.

        Args:
            truth, predicted: (B, N) true and predicted part of every point.
            category: (B,) true category of every cloud.

        Raises:
            ValueError: a part that the category of its cloud may not contain.
        """
        allowed, parts = self._allowed[category], self._allowed.shape[1]
        true, guessed = _counts(truth, parts), _counts(predicted, parts)
        for what, counts in (("true", true), ("predicted", guessed)):
            if (counts[~allowed] > 0).any():
                raise ValueError(f"a {what} part is none of its cloud's category")
        both = _counts(np.where(truth == predicted, truth, parts), parts + 1)[:, :parts]
        union = true + guessed - both
        iou = np.where(union > 0, both / np.maximum(union, 1), 1.0)
        self._per_cloud.append((iou * allowed).sum(axis=1) / allowed.sum(axis=1))
        self._category.append(category)
        pairs = np.bincount((truth * parts + predicted).ravel(), minlength=parts * parts)
        self._confusion += pairs.reshape(parts, parts)

    def scores(self) -> PartScores:
        """Of all clouds added so far.

        Raises:
            ValueError: there are none.
        """
        if not self._per_cloud:
            raise ValueError("no clouds, so there is nothing to score")
        per_cloud, category = np.concatenate(self._per_cloud), np.concatenate(self._category)
        clouds = np.bincount(category, minlength=len(self._allowed))
        sums = np.bincount(category, per_cloud, minlength=len(self._allowed))
        both = self._confusion.diagonal()
        union = self._confusion.sum(axis=0) + self._confusion.sum(axis=1) - both
        return PartScores(
            per_cloud,
            np.where(clouds > 0, sums / np.maximum(clouds, 1), np.nan),
            clouds,
            np.where(union > 0, both / np.maximum(union, 1), np.nan),
            self._confusion.copy(),
        )


def _counts(parts: Ints, number: int) -> Ints:
    """(B, number) points of each part in each cloud, of ``parts`` (B, N).

    Raises:
        ValueError: a part out of range.
    """
    if parts.size and (parts.min() < 0 or parts.max() >= number):
        raise ValueError(f"parts from {parts.min()} to {parts.max()}: there are {number}")
    rows = np.arange(len(parts))[:, None] * number
    counts: Ints = np.bincount((rows + parts).ravel(), minlength=len(parts) * number)
    return counts.reshape(len(parts), number)
