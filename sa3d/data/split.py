"""Splits that keep families together: near-duplicates never sit on both sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sa3d.data.store import TEST, TRAIN, VALIDATION, CloudSet
from sa3d.errors import DataError

_TRIALS = 8


@dataclass(frozen=True)
class Splits:
    """Ascending row indices into a :class:`~sa3d.data.store.CloudSet`.

    ``val_source`` says how ``val`` came about: the data set's own validation split, or carved
    out of its training split. ``families``: some clouds share a family.
    """

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]
    val_source: Literal["official", "carved"]
    families: bool = False

    @property
    def val_share(self) -> float:
        """Validation clouds over those of training and validation together. Whole families are
        carved out, so this is not exactly the fraction asked for."""
        return len(self.val) / (len(self.train) + len(self.val))

    def describe(self) -> str:
        """Where validation comes from, in words."""
        if self.val_source == "official":
            return f"the data set's own validation split, {len(self.val)} clouds"
        whole = ", families kept whole" if self.families else ""
        return f"{self.val_share * 100:.1f} % of the training split{whole}"


def train_val_test(clouds: CloudSet, val_fraction: float, seed: int) -> Splits:
    """Training, validation and test rows; the test split stays untouched.

    Validation is the data set's own where it has one, and then all of its training split trains.
    Else it is carved out of the training split. Stratified: about ``val_fraction`` of each class.
    Family-aware: a family goes to one side as a whole; a class whose training part is a single
    family gives nothing to validation. Deterministic in ``seed``.

    Raises:
        DataError: a fraction outside (0, 1), or no class with two families to divide.
    """
    if not 0.0 < val_fraction < 1.0:
        raise DataError(f"val_fraction={val_fraction} must lie between 0 and 1")
    train, val, test = (clouds.indices(split) for split in (TRAIN, VALIDATION, TEST))
    if len(val):
        return Splits(train, val, test, "official")
    rng = np.random.default_rng(seed)
    chosen = hold_out(clouds.labels[train], clouds.family[train], val_fraction, rng)
    if not chosen.any():
        raise DataError(
            f"{clouds.path}: no validation split possible, every class has a single family "
            "in its training part; prepare more shapes"
        )
    families = len(np.unique(clouds.family[train])) < len(train)
    return Splits(train[~chosen], train[chosen], test, "carved", families)


def hold_out(
    labels: NDArray[Any], family: NDArray[Any], fraction: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Mask (S,) of held-out rows: of each class, random whole families of about ``fraction``.

    A family is taken while that brings the class's share nearer to ``fraction``; of a few random
    orders the one that ends nearest counts, since one large family can spoil an order. Each class
    with two families or more gives at least its smallest one and keeps at least one.
    """
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        names, inverse, sizes = np.unique(family[rows], return_inverse=True, return_counts=True)
        if len(names) < 2:
            continue
        target = fraction * len(rows)
        trials = [_take(rng.permutation(len(names)), sizes, target) for _ in range(_TRIALS)]
        taken = min(trials, key=lambda trial: abs(int(sizes[trial].sum()) - target))
        if not taken:
            taken = [int(np.argmin(sizes))]
        held[rows[np.isin(inverse, taken)]] = True
    return held


def _take(order: NDArray[np.int64], sizes: NDArray[np.int64], target: float) -> list[int]:
    """Families taken in this order while each brings the sum nearer to ``target``; never all."""
    taken: list[int] = []
    count = 0
    for position in order.tolist():
        after = count + int(sizes[position])
        if abs(after - target) < abs(count - target) and len(taken) < len(sizes) - 1:
            taken.append(position)
            count = after
    return taken
