"""A family counts once, however many shapes it has."""

from __future__ import annotations

import numpy as np
import pytest

from sa3d.metrics.families import family_mean


def test_each_family_counts_once() -> None:
    values = np.array([True, True, True, False, True, False])
    family = np.array([7, 7, 7, 7, 2, 9])
    assert family_mean(values, family) == pytest.approx((3 / 4 + 1 + 0) / 3)


def test_without_families_it_is_the_mean() -> None:
    values = np.random.default_rng(0).random(100)
    assert family_mean(values, np.arange(100)) == pytest.approx(values.mean())


def test_one_large_family_moves_it_no_more_than_a_small_one() -> None:
    family = np.repeat([0, 1, 2], [500, 3, 1])
    for number in range(3):
        assert family_mean(family == number, family) == pytest.approx(1 / 3)
