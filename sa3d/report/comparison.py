"""From runs to means, differences and their intervals.

:mod:`sa3d.metrics.intervals` does the statistics. Here is decided what goes into it: which runs
belong together, what of them are rows (repetitions) and what are columns (test units).

- All runs kept their outcomes on the same test units: the scores themselves, a row a run.
- Runs with test units of their own (folds): one value a run; several seeds of all folds make a
  row a seed. If the task does not declare its folds independent, they give no interval.
- Only an accuracy and the number of clouds are known, of a single run: that, unless the clouds
  come in families, or may do so.
- Anything else gives no interval, and says why.

Several runs that start from one pre-training are no repetitions of it: if there are several
pre-trainings, the runs of each are averaged first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sa3d.metrics import intervals
from sa3d.metrics.intervals import Difference, Estimate, Interval
from sa3d.report.results import RunRecord
from sa3d.runs.spec import RunSpec
from sa3d.tasks.base import Folds, Metric

Numbers = NDArray[np.float64]
Side = Sequence[RunRecord]
MARGIN = 1000.0  # of the range of values that are no shares; see _Scale


class _Evidence(NamedTuple):
    """Rows (R, S) of each side, repetitions of the same test units."""

    rows: list[Numbers]
    family: NDArray[np.int64] | None
    row: str  # what a row is, in the plural
    unit: str  # what a column is; "": each row is a single value


def spec_of(run: RunRecord) -> RunSpec:
    """The identity of a run that belongs to an evaluation."""
    assert run.spec is not None, "runs of an evaluation are found by their identity"
    return run.spec


def place(run: RunRecord) -> tuple[int, int | None]:
    """By what runs of two variants belong together."""
    return spec_of(run).seed, spec_of(run).fold


def start_of(run: RunRecord) -> str:
    """What its encoder is: a pre-training, a checkpoint, or the random weights of its seed."""
    start = spec_of(run).start
    if start is None:
        return f"seed {spec_of(run).seed}"
    return start.name if isinstance(start, RunSpec) else start


def estimate(runs: Side, metric: Metric, folds: Folds | None = None) -> Estimate:
    """Mean of a variant's runs, each with a number, and its interval.

    ``sd`` is the standard deviation over the single runs; ``folds`` is what their task declares.
    """
    values = _values(runs, metric)
    sd = float(values.std(ddof=1)) if len(values) > 1 else None
    plain = Estimate(float(values.mean()), sd, len(values), None, "")
    found = _evidence([runs], metric, folds)
    if isinstance(found, str):
        return _from_share(runs[0], metric, plain) if len(runs) == 1 else replace(plain, how=found)
    scale = _Scale.of(found.rows, metric)
    (rows,) = (scale.inside(rows) for rows in found.rows)
    if not found.unit:
        made = intervals.estimate_values(list(rows[:, 0]))
    else:
        made = intervals.estimate(rows, found.family)
    return replace(
        plain,
        mean=float(np.mean(found.rows[0])),
        interval=scale.outside(made.interval),
        how=_named(made.how, found),
    )


def difference(first: Side, second: Side, metric: Metric, folds: Folds | None = None) -> Difference:
    """Mean of ``first`` minus that of ``second``; paired wherever the runs allow it."""
    others = {place(run): run for run in second}
    pairs = [(run, others[place(run)]) for run in first if place(run) in others]
    value = float(_values(first, metric).mean() - _values(second, metric).mean())
    if not pairs:
        unmatched = "no interval: no two runs have the same seed and fold"
        return _unpaired(first, second, metric, Difference(value, None, unmatched))
    a, b = (list(side) for side in zip(*pairs, strict=True))
    value = float((_values(a, metric) - _values(b, metric)).mean())
    found = _evidence([a, b], metric, folds)
    if isinstance(found, str):
        return _unpaired(a, b, metric, Difference(value, None, found))
    scale = _Scale.of(found.rows, metric)
    one, two = (scale.inside(rows) for rows in found.rows)
    if not found.unit:
        made = intervals.difference_values(list(one[:, 0]), list(two[:, 0]))
    else:
        made = intervals.difference(one, two, found.family)
    return Difference(
        float(np.mean(found.rows[0] - found.rows[1])),
        scale.stretched(made.interval),
        _named(made.how, found),
    )


def _evidence(sides: Sequence[Side], metric: Metric, folds: Folds | None) -> _Evidence | str:
    """What an interval can be made of; sides are matched run by run. Else the reason why not."""
    runs = [run for side in sides for run in side]
    if any(spec_of(run).fold is not None for run in runs):
        return _same_units(sides) or _fold_values(sides, metric, folds)
    without = sum(run.outcomes is None for run in runs)
    if without:
        return (
            f"no interval: the results of single test clouds are missing for {without} of "
            f"{len(runs)} runs"
        )
    groups, row = _repetitions(sides, "runs")
    return _same_units(sides) or _Evidence(
        [_averaged(_values(side, metric)[:, None], groups) for side in sides], None, row, ""
    )


def _same_units(sides: Sequence[Side]) -> _Evidence | None:
    """The scores, if all runs of all sides kept them and were tested on the same units."""
    units: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
    tables = []
    for side in sides:
        rows = []
        for run in side:
            kept = run.outcomes
            if kept is None:
                return None
            order = np.argsort(kept.index, kind="stable")
            units = units or (kept.index[order], kept.family[order])
            if not np.array_equal(kept.index[order], units[0]):
                return None
            rows.append(kept.score[order])
        tables.append(np.stack(rows))
    assert units is not None, "a side has at least one run"
    groups, row = _repetitions(sides, "runs")
    return _Evidence([_averaged(table, groups) for table in tables], units[1], row, "clouds")


def _fold_values(sides: Sequence[Side], metric: Metric, declared: Folds | None) -> _Evidence | str:
    """One value a run: a column a fold, a row a seed."""
    if declared is None or not declared.independent:
        return "no interval: folds may test the same clouds, so their spread says too little"
    places = [place(run) for run in sides[0]]
    seeds, folds = (list(dict.fromkeys(each)) for each in zip(*places, strict=True))
    if len(seeds) == 1:
        return _Evidence([_values(side, metric)[:, None] for side in sides], None, "folds", "")
    if len(places) != len(seeds) * len(folds):
        return "no interval: not every seed has every fold"
    tables, first_of_seed = [], []
    for side in sides:
        at = {place(run): run for run in side}
        rows = [[at[seed, fold] for fold in folds] for seed in seeds]
        tables.append(np.stack([_values(row, metric) for row in rows]))
        first_of_seed.append([row[0] for row in rows])
    groups, row = _repetitions(first_of_seed, "seeds")
    return _Evidence([_averaged(table, groups) for table in tables], None, row, "folds")


def _repetitions(sides: Sequence[Side], row: str) -> tuple[list[list[int]], str]:
    """Rows that are averaged, because they start from the same pre-training; what rows then are.

    With a single pre-training on every side the rows stay as they are: they then tell what the
    seed of the evaluation changes, which :func:`repetition` says in words.
    """
    columns = [[start_of(run) for run in side] for side in sides]
    several = [column for column in columns if len(set(column)) > 1]
    if not several:
        return [[place] for place in range(len(columns[0]))], row
    groups: dict[str, list[int]] = {}
    for place, start in enumerate(min(several, key=lambda column: len(set(column)))):
        groups.setdefault(start, []).append(place)
    return list(groups.values()), row if len(groups) == len(columns[0]) else "pre-trainings"


def _averaged(table: Numbers, groups: Sequence[Sequence[int]]) -> Numbers:
    return np.stack([table[list(rows)].mean(axis=0) for rows in groups])


def _values(runs: Side, metric: Metric) -> Numbers:
    values = [run.value(metric) for run in runs]
    assert None not in values, "runs without a number are left out before"
    return np.array(values, dtype=np.float64)


def _from_share(run: RunRecord, metric: Metric, plain: Estimate) -> Estimate:
    total = _total(run, metric)
    if isinstance(total, str):
        missing = "no interval: the results of single test clouds are missing"
        return replace(plain, how=missing + total)
    return intervals.estimate_share(plain.mean, total)


def _unpaired(first: Side, second: Side, metric: Metric, plain: Difference) -> Difference:
    """``plain`` says why the runs are not paired."""
    if len(first) > 1 or len(second) > 1:
        return plain
    (a,), (b,) = _values(first, metric), _values(second, metric)
    totals = _total(first[0], metric), _total(second[0], metric)
    if isinstance(totals[0], str) or isinstance(totals[1], str):
        why = next((total for total in totals if isinstance(total, str) and total), "")
        return replace(plain, how=plain.how + why)
    return intervals.unpaired(a, totals[0], b, totals[1])


def _total(run: RunRecord, metric: Metric) -> int | str:
    """How many independent test clouds an accuracy is a share of; else a clause that says why not.

    The clause is empty where the metric is no accuracy or the number of clouds is not known.
    """
    test, families = run.data.get("test"), run.data.get("test_families")
    if not metric.accuracy or not isinstance(test, int) or test < 1:
        return ""
    if not isinstance(families, int):
        return ", and it is not recorded how many families the test clouds come in"
    if families < test:
        known = "one family" if families == 1 else f"{families} families"
        return f", and the {test} test clouds come in {known}"
    return test


def _named(how: str, found: _Evidence) -> str:
    """The same words, with what the rows and columns really are."""
    return how.replace("runs", found.row).replace("clouds", found.unit or "clouds")


@dataclass(frozen=True)
class _Scale:
    """Maps values that are no shares into [0, 1] and back.

    All methods of :mod:`sa3d.metrics.intervals` commute with that, except where they cut an
    interval at 0 and 1; these are put a thousand ranges away, farther than any interval reaches.
    """

    low: float = 0.0
    width: float = 1.0

    @classmethod
    def of(cls, tables: Sequence[Numbers], metric: Metric) -> _Scale:
        if metric.share:
            return cls()
        low, high = min(map(np.min, tables)), max(map(np.max, tables))
        reach = float(high - low) or 1.0
        return cls(float(low) - MARGIN * reach, (2 * MARGIN + 1) * reach)

    def inside(self, values: Numbers) -> Numbers:
        return (values - self.low) / self.width

    def outside(self, interval: Interval | None) -> Interval | None:
        moved = self.stretched(interval)
        return moved and Interval(moved.low + self.low, moved.high + self.low)

    def stretched(self, interval: Interval | None) -> Interval | None:
        """Of a difference."""
        return interval and Interval(interval.low * self.width, interval.high * self.width)


def repetition(runs: Side) -> str:
    """How often something was repeated, and what was: ``4 runs from 2 pre-trainings``."""
    starts = {start_of(run) for run in runs}
    if len(runs) == 1:
        return "one run"
    places = [place(run) for run in runs]
    folds = len({fold for _, fold in places if fold is not None})
    seeds = len({seed for seed, _ in places})
    text = f"{len(runs)} runs"
    if folds:
        text += f" ({folds} folds)" if seeds == 1 else f" ({seeds} seeds, {folds} folds)"
    start = spec_of(runs[0]).start
    if start is None:
        drawn = "one draw" if seeds == 1 else f"{seeds} draws"
        return f"{text} from {drawn} of random weights"
    what = "pre-training" if isinstance(start, RunSpec) else "checkpoint"
    return f"{text} from {'one ' + what if len(starts) == 1 else f'{len(starts)} {what}s'}"
