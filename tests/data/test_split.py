"""Splits: families stay together, an official validation split is used, shares are told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cloud_sets import set_of
from hypothesis import given, settings
from hypothesis import strategies as st

from sa3d.data.split import hold_out, train_val_test
from sa3d.data.store import TEST, TRAIN, CloudSet
from sa3d.errors import DataError

COUNT = 37


@pytest.fixture(scope="module")
def clouds(tmp_path_factory: pytest.TempPathFactory) -> CloudSet:
    split = (np.arange(COUNT) // 4 % 5 == 0).astype(np.uint8)
    return set_of(tmp_path_factory.mktemp("split") / "s.h5", [8] * COUNT, split=split)


def test_validation_comes_from_train_by_family(clouds: CloudSet) -> None:
    splits = train_val_test(clouds, 0.2, seed=0)
    every = np.concatenate((splits.train, splits.val, splits.test))
    assert sorted(every.tolist()) == list(range(COUNT))
    np.testing.assert_array_equal(splits.test, clouds.indices(TEST))
    assert not set(clouds.family[splits.train]) & set(clouds.family[splits.val])
    again, other = train_val_test(clouds, 0.2, seed=0), train_val_test(clouds, 0.2, seed=1)
    np.testing.assert_array_equal(splits.val, again.val)
    assert not np.array_equal(splits.val, other.val)
    with pytest.raises(DataError, match=r"val_fraction=1\.0"):
        train_val_test(clouds, 1.0, seed=0)


def test_the_share_that_was_carved_is_told(tmp_path: Path) -> None:
    """Two families of 3 and 7 clouds in each class: asked for 10 %, 30 % is the nearest."""
    labels = np.repeat([0, 1], 10)
    family = np.repeat([0, 1, 2, 3], [3, 7, 3, 7])
    clouds = set_of(
        tmp_path / "s.h5",
        [8] * 20,
        parts=False,
        labels=labels,
        family=family,
        split=np.zeros(20, np.uint8),
    )
    splits = train_val_test(clouds, 0.1, seed=0)
    assert (splits.val_source, splits.val_share) == ("carved", 0.3)
    assert splits.describe() == "30.0 % of the training split, families kept whole"


def test_an_official_validation_split_is_used(tmp_path: Path) -> None:
    split = np.array([0, 0, 0, 2, 1, 2, 0, 0], np.uint8)
    clouds = set_of(tmp_path / "s.h5", [8] * 8, split=split)
    splits = train_val_test(clouds, 0.5, seed=0)
    assert splits.val.tolist() == [3, 5]
    np.testing.assert_array_equal(splits.train, clouds.indices(TRAIN))
    assert splits.test.tolist() == [4]
    assert (splits.val_source, splits.val_share) == ("official", 2 / 7)
    assert splits.describe() == "the data set's own validation split, 2 clouds"


@settings(max_examples=60)
@given(
    sizes=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=12), min_size=1, max_size=4),
    fraction=st.floats(0.05, 0.6),
    seed=st.integers(0, 9),
)
def test_hold_out(sizes: list[list[int]], fraction: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), [sum(s) for s in sizes])
    family = np.repeat(np.arange(sum(map(len, sizes))), [n for s in sizes for n in s])
    held = hold_out(labels, family, fraction, np.random.default_rng(seed))
    for name in np.unique(family):
        assert len(np.unique(held[family == name])) == 1, "a family straddles"
    for label, families in enumerate(sizes):
        mine = held[labels == label]
        if len(families) == 1:
            assert not mine.any()
            continue
        assert mine.any()
        assert not mine.all()
        # within half of the largest family of the target, or the smallest family alone
        off = abs(mine.sum() - fraction * len(mine))
        assert off <= max(max(families), min(families))


def test_single_family_classes_give_no_validation(tmp_path: Path) -> None:
    clouds = set_of(tmp_path / "s.h5", [8, 8], split=np.zeros(2, np.uint8), family=np.array([0, 1]))
    with pytest.raises(DataError, match="single family"):
        train_val_test(clouds, 0.1, seed=0)
