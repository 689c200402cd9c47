"""Uncertainty of accuracies and of their differences, in plain numpy.

All values are shares in [0, 1]; all intervals are two-sided 95 %.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959963984540054  # 0.975 quantile of the normal distribution
RESAMPLES = 10_000


class Interval(NamedTuple):
    """A closed interval."""

    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether ``value`` lies inside."""
        return self.low <= value <= self.high


class Difference(NamedTuple):
    """First minus second accuracy, its interval, and how the interval was made."""

    value: float
    interval: Interval
    how: str

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return not self.interval.holds(0.0)


def wilson(correct: float, total: int) -> Interval:
    """Wilson score interval of ``correct`` of ``total`` (Wilson 1927).

    ``correct`` may be fractional: a logged share times ``total`` is not exactly whole.
    """
    if total <= 0 or not 0.0 <= correct <= total:
        raise ValueError(f"{correct} correct of {total}")
    share, z2 = correct / total, Z95**2
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = Z95 / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    low = 0.0 if correct == 0 else max(0.0, middle - half)
    high = 1.0 if correct == total else min(1.0, middle + half)
    return Interval(low, high)


def newcombe(first: float, second: float, total_first: int, total_second: int) -> Difference:
    """Difference of two independent shares (Newcombe 1998, method 10).

    For two models read on the same clouds this is wider than a paired interval: it is what
    can be said when only the two accuracies are known.
    """
    a = wilson(first * total_first, total_first)
    b = wilson(second * total_second, total_second)
    value = first - second
    low = value - math.hypot(first - a.low, b.high - second)
    high = value + math.hypot(a.high - first, second - b.low)
    return Difference(value, Interval(low, high), "unpaired (Newcombe)")


def paired_bootstrap(
    first: NDArray[np.bool_], second: NDArray[np.bool_], seed: int = 0
) -> Difference:
    """Difference of two models' accuracies on the same clouds, by a paired bootstrap.

    ``first`` and ``second`` (S,) say per cloud whether the model was right. Resampling S
    clouds only counts how often each of the three cases (only the first right, only the
    second, both or none) is drawn, which is one multinomial draw a resample.
    """
    total = len(first)
    if total == 0 or len(second) != total:
        raise ValueError(f"{total} and {len(second)} paired outcomes")
    only_first = int((first & ~second).sum())
    only_second = int((second & ~first).sum())
    shares = np.array([only_first, only_second, total - only_first - only_second]) / total
    draws = np.random.default_rng(seed).multinomial(total, shares, size=RESAMPLES)
    values = (draws[:, 0] - draws[:, 1]) / total
    low, high = np.quantile(values, [0.025, 0.975])
    return Difference(
        (only_first - only_second) / total,
        Interval(float(low), float(high)),
        f"paired bootstrap over {total} clouds",
    )


def grouped_bootstrap(
    values: NDArray[np.float64], groups: NDArray[np.generic], seed: int = 0
) -> Interval:
    """Interval of the mean of ``values`` (S,) when whole ``groups`` (S,) are resampled.

    Clouds of one family are alike, so that drawing clouds one by one would count the same
    evidence several times.
    """
    _, member = np.unique(groups, return_inverse=True)
    sums = np.bincount(member, weights=values)
    sizes = np.bincount(member).astype(np.float64)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=RESAMPLES // 4)
    means = (counts @ sums) / (counts @ sizes)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(low), float(high))
