"""Means of scores, their differences, and how far chance alone could have moved them.

A score says how well one test cloud was handled: 0 or 1 for a classifier, an IoU in [0, 1]
for a segmentation. Scores come as (R, S): R runs (seeds) on the same S test clouds. Clouds
may belong to families of near-identical clouds; then the families, not the clouds, are the
independent pieces of evidence. All intervals are two-sided and claim 95 %.

Where the data do not allow a claim (one family, no spread at all), ``interval`` is None and
``how`` gives the reason. An interval of zero width is never returned.

Which method is used:

- independent clouds, one run, scores 0 or 1: Wilson; for a difference, the exact interval
  that belongs to McNemar's test;
- independent clouds otherwise: Student's t over the clouds (over their means across runs);
- families: half-samples, see :func:`_half_samples`;
- several runs: the variance of the runs' means is added to the variance from clouds or
  families. What changes with both, run and cloud, is then counted twice, so the interval is
  rather too wide than too narrow;
- one number per run on other clouds each time: t over the runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

ALPHA = 0.05  # every interval claims 1 - ALPHA
# Half-samples are exact only for values that lie symmetrically about their mean, and joining two
# variances is an approximation. In simulations at 0.05 they cover 92 to 95 % where two families
# hold a third of the clouds; at 0.03 they cover at least 94 %.
CAUTIOUS_ALPHA = 0.03
ALL_SPLITS_UP_TO = 13  # families; beyond that, splits are drawn at random
DRAWN_SPLITS = 5_000
QUADRATURE_POINTS = 200
ROUNDING = 1e-12  # scores closer than this are the same but for rounding

Scores = NDArray[np.float64]


class Interval(NamedTuple):
    """A closed interval."""

    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether ``value`` lies inside."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Estimate:
    """Mean score of one variant.

    ``sd`` is the standard deviation (ddof 1) of the runs' means, None for a single run.
    """

    mean: float
    sd: float | None
    runs: int
    interval: Interval | None
    how: str


@dataclass(frozen=True)
class Difference:
    """Mean score of the first variant minus that of the second."""

    value: float
    interval: Interval | None
    how: str

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0; without an interval nothing is clear."""
        return self.interval is not None and not self.interval.holds(0.0)


class _Part(NamedTuple):
    """Uncertainty from the test clouds: an interval, or None with the reason in ``how``."""

    interval: Interval | None
    how: str


def estimate(scores: ArrayLike, family: NDArray[np.generic] | None = None) -> Estimate:
    """Mean score of one variant over R runs on the same S test clouds.

    ``scores`` is (R, S) in [0, 1] (or (S,) for one run); ``family`` (S,) names the family of
    each cloud, None for independent clouds. The interval is for the mean over new runs and
    new clouds (or new families of the same sizes), not for these clouds alone. With one run
    it is for this one trained model: what another seed would change is not in it.

    If every cloud is right, independent clouds still bound the accuracy from below (Wilson).
    Families that are all right do not: their number would have to be taken as the number of
    trials, although one family may hold a sixth of the clouds, so no interval is given.

    Raises ValueError for scores outside [0, 1] or shapes that do not fit.
    """
    table = _table(scores, family)
    runs = table.shape[0]
    means = table.mean(axis=1)
    sd = float(means.std(ddof=1)) if runs > 1 else None
    interval, how = _interval(table, family, (0.0, 1.0))
    return Estimate(float(table.mean()), sd, runs, interval, how)


def difference(
    first: ArrayLike, second: ArrayLike, family: NDArray[np.generic] | None = None
) -> Difference:
    """Difference of two variants on the same S clouds, in R runs matched one to one.

    ``first`` and ``second`` are (R, S) in [0, 1] (or (S,)); row r of both belongs together,
    for instance by the seed. ``family`` as in :func:`estimate`. For one run on independent
    clouds with scores 0 or 1, ``clear`` agrees with McNemar's exact test at 5 %.

    Raises ValueError for scores outside [0, 1] or shapes that do not fit.
    """
    a, b = _table(first, family), _table(second, family)
    if a.shape != b.shape:
        raise ValueError(f"scores of shapes {a.shape} and {b.shape} cannot be paired")
    gap = a - b
    interval, how = _interval(gap, family, (-1.0, 1.0))
    return Difference(float(gap.mean()), interval, how)


def estimate_values(values: Sequence[float]) -> Estimate:
    """Mean of one value in [0, 1] per run, where no two runs share test clouds.

    Few-shot folds are such runs. The values must be independent: folds that are repeated
    under several seeds go to :func:`estimate` as (seeds, folds), with folds in the place of
    clouds.

    Raises ValueError for no values or values outside [0, 1].
    """
    array = _column(values)
    sd = float(array.std(ddof=1)) if len(array) > 1 else None
    interval, how = _student(array, (0.0, 1.0), "runs")
    return Estimate(float(array.mean()), sd, len(array), interval, how)


def difference_values(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Mean difference of matched runs that share no test clouds, by a paired t interval.

    ``first[i]`` and ``second[i]`` belong to the same fold (and seed); the differences must be
    independent, see :func:`estimate_values`.

    Raises ValueError for no values, values outside [0, 1] or unequal numbers of them.
    """
    a, b = _column(first), _column(second)
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} values cannot be paired")
    interval, how = _student(a - b, (-1.0, 1.0), "matched runs")
    return Difference(float((a - b).mean()), interval, how)


def estimate_share(accuracy: float, total: int) -> Estimate:
    """Accuracy of one run of which only the share and the number of clouds are known.

    The clouds are taken as independent (Wilson).

    Raises ValueError for an accuracy outside [0, 1] or a total below 1.
    """
    interval = _wilson(accuracy, total)
    return Estimate(float(accuracy), None, 1, interval, f"Wilson interval over {total} clouds")


def unpaired(first: float, total_first: int, second: float, total_second: int) -> Difference:
    """Difference of two accuracies when nothing else is known (Newcombe 1998, method 10).

    For two models on the same clouds this is wider than a paired interval. The clouds are
    taken as independent.

    Raises ValueError for an accuracy outside [0, 1] or a total below 1.
    """
    a, b = _wilson(first, total_first), _wilson(second, total_second)
    value = first - second
    low = value - math.hypot(first - a.low, b.high - second)
    high = value + math.hypot(a.high - first, second - b.low)
    return Difference(value, Interval(low, high), "unpaired interval (Newcombe)")


def _table(scores: ArrayLike, family: NDArray[np.generic] | None) -> Scores:
    table = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    if table.ndim != 2 or table.size == 0:
        raise ValueError(f"scores of shape {table.shape}; expected (runs, clouds), not empty")
    if not ((table >= 0.0) & (table <= 1.0)).all():
        raise ValueError(f"scores from {table.min()} to {table.max()}; expected within [0, 1]")
    if family is not None and np.shape(family) != table.shape[1:]:
        raise ValueError(f"families of shape {np.shape(family)} for {table.shape[1]} clouds")
    return table


def _column(values: Sequence[float]) -> NDArray[np.float64]:
    if np.ndim(values) != 1:
        raise ValueError(f"values of shape {np.shape(values)}; expected one number a run")
    column: NDArray[np.float64] = _table(values, None)[0]
    return column


def _interval(
    values: Scores, family: NDArray[np.generic] | None, limits: tuple[float, float]
) -> _Part:
    """Interval of the mean of ``values`` (R, S) within ``limits``, from clouds and runs."""
    runs = values.shape[0]
    if runs > 1 and (values == values[0]).all():
        part = _interval(values[:1], family, limits)  # the same run again adds no evidence
        return part._replace(how=f"{part.how}; the {runs} runs agree on every cloud")
    part = _from_clouds(values, family, limits)
    if runs == 1 or part.interval is None:
        return part
    mean = float(values.mean())
    error = float(values.mean(axis=1).std(ddof=1)) / math.sqrt(runs)
    low = mean - _joined(mean - part.interval.low, error, runs)
    high = mean + _joined(part.interval.high - mean, error, runs)
    both = Interval(max(low, limits[0]), min(high, limits[1]))
    return _Part(both, f"{part.how}, joined with the spread of {runs} runs")


def _joined(half: float, error: float, runs: int) -> float:
    """Distance from mean to limit: ``half`` from the clouds joined with the runs' ``error``.

    The two variances add up; the degrees of freedom of their sum are Satterthwaite's (1946),
    with runs - 1 for the runs and no limit for the clouds. ``half`` is divided by the normal
    quantile that it is multiplied with again, so that it stays as it is if runs do not differ.
    """
    from_clouds, from_runs = (half / stats.norm.ppf(1 - CAUTIOUS_ALPHA / 2)) ** 2, error**2
    if from_runs == 0.0:
        return half
    freedom = (runs - 1) * ((from_clouds + from_runs) / from_runs) ** 2
    quantile = stats.t.ppf(1 - CAUTIOUS_ALPHA / 2, freedom)
    return float(quantile * math.sqrt(from_clouds + from_runs))


def _from_clouds(
    values: Scores, family: NDArray[np.generic] | None, limits: tuple[float, float]
) -> _Part:
    total = values.shape[1]
    if family is not None:
        names, member = np.unique(family, return_inverse=True)
        if len(names) < total:
            return _half_samples(values, member)
    if len(values) > 1 or not np.isin(values, (-1.0, 0.0, 1.0)).all():
        return _student(values.mean(axis=0), limits, "clouds")
    if limits[0] == 0.0:
        accuracy = float(values.mean())
        return _Part(_wilson(accuracy, total), f"Wilson interval over {total} clouds")
    return _mcnemar(int((values > 0).sum()), int((values < 0).sum()), total)


def _half_samples(values: Scores, member: NDArray[np.intp]) -> _Part:
    """Interval of the mean of ``values`` (R, S) whose clouds belong to families (S,).

    The families are split into two at random, many times, and the mean of either side is
    taken (Hartigan 1969, "Using subsample values as typical values"). If the families'
    values lie symmetrically about the true mean, the true mean is equally likely to have any
    rank among these means, whatever the sizes and spreads of the families. This is the
    sign-flip test of all possible means, turned into an interval: a mean m is ruled out if
    flipping the signs of families' deviations from m moves the sum as far as it lies only
    in a share CAUTIOUS_ALPHA of all cases.

    It needs neither an estimate of variance nor degrees of freedom, both of which fail when
    two families hold a third of the clouds. With fewer than seven families there are too few
    splits for a claim. Skewed values (accuracies above about 0.8, fewer than ten families)
    are covered less often than claimed, as by every method that was tried.
    """
    # sums, not means over runs: sums of 0s and 1s are exact, so that ties stay ties
    totals = np.bincount(member, weights=values.sum(axis=0))
    sizes = np.bincount(member) * float(len(values))
    what = f"{len(totals)} families" if len(totals) > 1 else "one family"
    sides = _splits(len(totals)).astype(np.float64)
    total, size = sides @ totals, sides @ sizes
    rest = (totals.sum() - total) / (sizes.sum() - size)
    # The unsplit sample stands for the data as seen; no mean is more extreme than that.
    unsplit = size == 0
    with np.errstate(invalid="ignore"):
        side = total / size
    lower = np.sort(np.where(unsplit, -np.inf, np.minimum(side, rest)))
    upper = np.sort(np.where(unsplit, np.inf, np.maximum(side, rest)))
    ruled_out = int(CAUTIOUS_ALPHA * len(sides))
    low, high = float(lower[ruled_out]), float(upper[-1 - ruled_out])
    if not math.isfinite(low):
        return _Part(None, f"no interval: {what}, too few for a claim")
    if high - low < ROUNDING:
        return _Part(None, f"no interval: {what}, all with the same mean")
    return _Part(Interval(low, high), f"half-samples of {what}")


@lru_cache(maxsize=4)
def _splits(count: int) -> NDArray[np.bool_]:
    """Splits (N, count) of families into True and False; the last family is always False.

    All splits for few families, else drawn ones; the first row is the unsplit sample.
    """
    if count <= ALL_SPLITS_UP_TO:
        codes = np.arange(2 ** (count - 1))[:, None]
        splits: NDArray[np.bool_] = (codes >> np.arange(count)) % 2 == 1
    else:
        splits = np.random.default_rng(count).random((DRAWN_SPLITS, count)) < 0.5
        splits[0] = False
        splits[:, -1] = False
    splits.setflags(write=False)
    return splits


def _student(values: NDArray[np.float64], limits: tuple[float, float], what: str) -> _Part:
    """Student's t interval of the mean of independent ``values`` (S,), cut at ``limits``."""
    count = len(values)
    if count == 1:
        return _Part(None, f"no interval: a single value ({what}) tells no spread")
    if np.ptp(values) < ROUNDING:
        return _Part(None, f"no interval: {count} {what}, all with the same value")
    half = float(stats.t.ppf(1 - ALPHA / 2, count - 1)) * float(stats.sem(values))
    mean = float(values.mean())
    interval = Interval(max(mean - half, limits[0]), min(mean + half, limits[1]))
    return _Part(interval, f"t interval over {count} {what}")


def _wilson(accuracy: float, total: int) -> Interval:
    """Wilson score interval; the share of a whole number may have been rounded."""
    if total < 1 or not 0.0 <= accuracy <= 1.0:
        raise ValueError(f"accuracy {accuracy} of {total} clouds")
    result = stats.binomtest(round(accuracy * total), total)
    interval = result.proportion_ci(1 - ALPHA, method="wilson")
    return Interval(float(interval.low), float(interval.high))


def _mcnemar(wins: int, losses: int, total: int) -> _Part:
    """Interval of (wins - losses) / total that leaves out 0 exactly if McNemar's test does.

    ``wins`` clouds were right only with the first model, ``losses`` only with the second, of
    ``total`` independent clouds. Fay and Lumbard 2021, "Confidence intervals for difference
    in proportions for matched pairs compatible with exact McNemar's or sign tests".
    """
    if wins + losses == 0:
        return _Part(None, f"no interval: both agree on all {total} clouds")
    low, high = _meld(wins, losses, total), -_meld(losses, wins, total)
    return _Part(Interval(low, high), f"exact McNemar interval over {total} clouds")


def _meld(wins: int, losses: int, total: int) -> float:
    """Lower limit of the difference t * (2 p - 1).

    t is the share of clouds on which the models differ and p the first model's share of
    these. Their Clopper-Pearson limits at all levels are quantiles of beta distributions;
    the limit sought is the ALPHA / 2 quantile of the product of two such variables. For p
    above one half the small values of t are the cautious ones, below it the large ones.
    """
    differ, tail = wins + losses, ALPHA / 2
    first_ahead = wins > 0 and special.betainc(wins, losses + 1, 0.5) < tail
    a, b = (differ, total - differ + 1) if first_ahead else (differ + 1, total - differ)
    if wins == 0:  # p has its lowest value, 0
        return -1.0 if b == 0 else -float(special.betaincinv(a, b, 1 - tail))
    levels = (np.arange(QUADRATURE_POINTS) + 0.5) / QUADRATURE_POINTS
    share = special.betaincinv(a, b, levels) if b else np.ones(1)

    def excess(limit: float) -> float:
        p = np.clip((limit / share + 1) / 2, 0.0, 1.0)
        return float(special.betainc(wins, losses + 1, p).mean()) - tail

    ends = (0.0, 1.0) if first_ahead else (-1.0, 0.0)
    return float(optimize.brentq(excess, *ends))
