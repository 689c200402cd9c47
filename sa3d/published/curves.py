"""The official logs in ``logs/``, and what is computed from them."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from sa3d.errors import DataError
from sa3d.published.numbers import LOGS, Log, PretrainingCurve

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """What is told of a log; all values in its own unit, shares in [0, 1].

    Attributes:
        last: the last reading; None where the mean is over all readings.
        mean, sd: of the last ``tail`` readings; the standard deviation has ddof 1.
        tail: how many these are.
        best, best_at: the largest reading, and its epoch or vote as the log counts it.
    """

    last: float | None
    mean: float
    sd: float
    tail: int
    best: float
    best_at: int


def readings(file: str, columns: Iterable[str], x: str = "epoch", run: str = "") -> list[Numbers]:
    """Place and columns of a log, each (R,), ascending by place.

    A place that stands twice was repeated after a restart: its last reading counts. Readings that
    are not finite are left out.

    Raises:
        DataError: no such column or run.
    """
    rows = [row for row in _rows(file) if not run or row.get("run") == run]
    wanted = [x, *columns]
    if not rows or not set(wanted) <= set(rows[0]):
        raise DataError(f"{file} has no {', '.join(wanted)}" + (f" of run '{run}'" if run else ""))
    found = {float(row[x]): [float(row[name]) for name in wanted] for row in rows}
    kept = [values for _, values in sorted(found.items()) if all(map(math.isfinite, values))]
    return [np.array(column) for column in zip(*kept, strict=True)]


@cache
def _rows(file: str) -> tuple[dict[str, str], ...]:
    with (LOGS / file).open(encoding="utf-8", newline="") as text:
        return tuple(csv.DictReader(text))


def curve(log: Log) -> tuple[Numbers, Numbers]:
    """Epochs done (or votes) and values in [0, 1], each (R,): an epoch's value is of its end."""
    places, values = readings(log.file, [log.column], log.x, log.run)
    if log.x == "epoch":
        places = places - places[0] + 1
    return places, values / (100 if log.unit == "percent" else 1)


def summary(log: Log) -> Summary:
    """Last reading, mean and spread of the last ones, and the best one."""
    places, values = readings(log.file, [log.column], log.x, log.run)
    values = values / (100 if log.unit == "percent" else 1)
    best = int(values.argmax())
    tail = values[-log.tail :]
    return Summary(
        last=float(values[-1]) if len(tail) < len(values) else None,
        mean=float(tail.mean()),
        sd=float(tail.std(ddof=1)),
        tail=len(tail),
        best=float(values[best]),
        best_at=int(places[best]),
    )


def pretraining(official: PretrainingCurve) -> tuple[Numbers, Numbers]:
    """Epochs done and unweighted values, each (R,): a mean over an epoch lies in its middle."""
    places, *columns = readings(official.file, official.columns)
    values = np.sum(columns, axis=0)
    if official.weights is not None:
        values = np.where(
            places >= official.weights.from_epoch, values / official.weights.by, values
        )
    return places - places[0] + 0.5, values
