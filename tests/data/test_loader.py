"""Batches: deterministic, resumable, shardable; splits that keep families together."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sa3d.data.loader import Batches, _bounds
from sa3d.data.split import hold_out, train_val_test
from sa3d.data.store import CloudSet, CloudTable, open_clouds, write_clouds
from sa3d.data.transforms import unit_sphere
from sa3d.errors import DataError

COUNT, STORED = 37, 96


@pytest.fixture(scope="module")
def clouds(tmp_path_factory: pytest.TempPathFactory) -> CloudSet:
    rng = np.random.default_rng(0)
    table = CloudTable(
        ids=[str(i) for i in range(COUNT)],
        labels=np.arange(COUNT) % 3,
        split=(np.arange(COUNT) % 5 == 0).astype(np.uint8),
        group=np.arange(COUNT) // 2,
        class_names=("a", "b", "c"),
        source_hash="0",
    )
    points = rng.normal(size=(COUNT, STORED, 3)).astype(np.float32)
    path = tmp_path_factory.mktemp("loader") / "s.h5"
    return open_clouds(write_clouds(path, points, table, num_points=STORED))


def batches(clouds: CloudSet, **changes: object) -> Batches:
    settings: dict = {
        "batch_size": 8,
        "points": 32,
        "seed": 3,
        "shuffle": True,
        "drop_last": True,
        **changes,
    }
    return Batches(clouds, np.arange(COUNT), **settings)


def test_shapes_and_labels(clouds: CloudSet) -> None:
    loader = batches(clouds)
    found = list(loader.epoch(0))
    assert len(found) == len(loader) == COUNT // 8
    for batch in found:
        assert batch.points.shape == (8, 32, 3)
        assert batch.points.dtype == torch.float32
        assert batch.labels.dtype == batch.index.dtype == torch.int64
        np.testing.assert_array_equal(batch.labels, clouds.labels[batch.index.numpy()])
        radius = batch.points.norm(dim=2).amax(dim=1)
        torch.testing.assert_close(radius, torch.ones(8))
        torch.testing.assert_close(batch.points.mean(dim=1), torch.zeros(8, 3), atol=1e-6, rtol=0)


def test_subset_without_replacement_then_unit_sphere(clouds: CloudSet) -> None:
    """Undoing the scaling gives distinct points of the stored cloud."""
    batch = next(batches(clouds).epoch(0))
    for points, row in zip(batch.points.numpy(), batch.index.tolist(), strict=True):
        stored = clouds.points[row]
        # ratios of differences survive centring and scaling
        scale = np.ptp(stored, axis=0).max()
        candidates = stored[:, None] - stored[None]
        found = points[1] - points[0]
        cosine = (candidates @ found) / (
            np.linalg.norm(candidates, axis=-1).clip(1e-12) * np.linalg.norm(found)
        )
        assert cosine.max() > 1 - 1e-5
        assert scale > 0
        assert len(np.unique(points, axis=0)) == 32


def test_epochs_differ_and_repeat(clouds: CloudSet) -> None:
    loader = batches(clouds)
    first, again, second = (list(loader.epoch(e)) for e in (0, 0, 1))
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.points, b.points)
        assert torch.equal(a.index, b.index)
    assert not torch.equal(first[0].index, second[0].index)
    assert not torch.equal(next(batches(clouds, seed=4).epoch(0)).index, first[0].index)


@pytest.mark.parametrize("start", [0, 1, 3, 4])
def test_resume_in_the_middle(clouds: CloudSet, start: int) -> None:
    whole = list(batches(clouds).epoch(5))
    rest = list(batches(clouds).epoch(5, start=start))
    assert len(rest) == len(whole) - start
    for a, b in zip(whole[start:], rest, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("drop_last", [True, False])
def test_two_processes_see_what_one_sees(clouds: CloudSet, drop_last: bool) -> None:
    one = list(batches(clouds, drop_last=drop_last).epoch(2))
    ranks = [
        list(batches(clouds, drop_last=drop_last, batch_size=4, rank=r, world=2).epoch(2))
        for r in (0, 1)
    ]
    assert len(ranks[0]) == len(ranks[1]) == len(one)
    for whole, left, right in zip(one, *ranks, strict=True):
        assert torch.equal(torch.cat((left.index, right.index)), whole.index)
        assert torch.equal(torch.cat((left.points, right.points)), whole.points)


@given(
    count=st.integers(1, 200),
    batch_size=st.integers(1, 20),
    world=st.integers(1, 5),
    drop_last=st.booleans(),
)
def test_bounds(count: int, batch_size: int, world: int, drop_last: bool) -> None:
    whole = batch_size * world
    if count < (whole if drop_last else world):
        with pytest.raises(DataError):
            _bounds(count, batch_size, world, drop_last)
        return
    bounds = _bounds(count, batch_size, world, drop_last)
    sizes = np.diff(bounds)
    assert bounds[0] == 0
    assert bounds[-1] == (count - count % whole if drop_last else count)
    assert (sizes[:-1] == whole).all()
    assert world <= sizes[-1] < whole + world


def test_unshuffled_evaluation_covers_everything_in_order(clouds: CloudSet) -> None:
    loader = batches(clouds, shuffle=False, drop_last=False)
    assert torch.cat([b.index for b in loader.epoch(0)]).tolist() == list(range(COUNT))


def test_fps_spreads_and_starts_at_the_first_point(clouds: CloudSet) -> None:
    pytest.importorskip("point_ops")
    batch = next(batches(clouds, sampling="fps", shuffle=False, points=4).epoch(0))
    stored = clouds.points[0].astype(np.float64)
    chosen = [0]
    for _ in range(3):
        gap = ((stored[:, None] - stored[chosen]) ** 2).sum(axis=-1).min(axis=1)
        chosen.append(int(gap.argmax()))
    picked = torch.from_numpy(clouds.points[0][chosen])
    centred = picked - picked.mean(dim=0)
    torch.testing.assert_close(batch.points[0], centred / centred.norm(dim=1).max())


def test_refusals(clouds: CloudSet) -> None:
    with pytest.raises(DataError, match=r"97 points asked but .* stores 96"):
        batches(clouds, points=97)
    with pytest.raises(DataError, match="smaller batch_size"):
        batches(clouds, batch_size=64)
    with pytest.raises(ValueError, match="rank 2 of 2"):
        batches(clouds, rank=2, world=2)
    with pytest.raises(ValueError, match="sampling"):
        batches(clouds, sampling="other")


# --- splits ------------------------------------------------------------------------------


def test_validation_comes_from_train_by_family(clouds: CloudSet) -> None:
    splits = train_val_test(clouds, 0.2, seed=0)
    assert sorted(np.concatenate(splits).tolist()) == list(range(COUNT))
    np.testing.assert_array_equal(splits.test, clouds.indices(1))
    again = train_val_test(clouds, 0.2, seed=0)
    assert all((a == b).all() for a, b in zip(splits, again, strict=True))
    assert not np.array_equal(splits.val, train_val_test(clouds, 0.2, seed=1).val)
    with pytest.raises(DataError, match=r"val_fraction=1\.0"):
        train_val_test(clouds, 1.0, seed=0)


@settings(max_examples=60)
@given(
    sizes=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=12), min_size=1, max_size=4),
    fraction=st.floats(0.05, 0.6),
    seed=st.integers(0, 9),
)
def test_hold_out(sizes: list[list[int]], fraction: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), [sum(s) for s in sizes])
    group = np.repeat(np.arange(sum(map(len, sizes))), [n for s in sizes for n in s])
    held = hold_out(labels, group, fraction, np.random.default_rng(seed))
    for name in np.unique(group):
        assert len(np.unique(held[group == name])) == 1, "a family straddles"
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
    table = CloudTable(
        ids=["0", "1"],
        labels=np.array([0, 1]),
        split=np.zeros(2, np.uint8),
        group=np.array([0, 1]),
        class_names=("a", "b"),
        source_hash="0",
    )
    points = np.random.default_rng(0).normal(size=(2, 8, 3))
    only = open_clouds(write_clouds(tmp_path / "s.h5", points, table, num_points=8))
    with pytest.raises(DataError, match="single family"):
        train_val_test(only, 0.1, seed=0)


def test_fps_subset_is_a_random_part_of_more_farthest_points(clouds: CloudSet) -> None:
    from point_ops import farthest_point_sample

    assert (1024 * 75 // 64, 2048 * 75 // 64) == (1200, 2400)  # the published sizes
    asked, pool = 13, 15
    loader = batches(clouds, sampling="fps_subset", shuffle=False, points=asked)
    first, again, later = (next(loader.epoch(e)) for e in (0, 0, 1))
    assert torch.equal(first.points, again.points)
    assert not torch.equal(first.points, later.points)
    stored = torch.from_numpy(clouds.points[0].copy())
    farthest = stored[farthest_point_sample(stored[None], pool)[0]]
    # scaled to the unit sphere, one of the 105 subsets of the pool is what came
    parts = torch.tensor(list(combinations(range(pool), asked)))
    candidates = unit_sphere(farthest[parts])
    gaps = torch.cdist(candidates, first.points[:1].expand(len(parts), -1, -1)).amin(1).amax(1)
    assert (gaps < 1e-5).sum() == 1


def test_farthest_points_are_found_once_and_stay_the_same(
    clouds: CloudSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    import point_ops

    real, asked = point_ops.farthest_point_sample, []

    def counted(points: torch.Tensor, count: int) -> torch.Tensor:
        asked.append(len(points))
        return real(points, count)

    monkeypatch.setattr(point_ops, "farthest_point_sample", counted)
    settings = {"sampling": "fps_subset", "drop_last": False}
    kept = batches(clouds, **settings)
    for epoch in (0, 1, 2):
        fresh = batches(clouds, **settings)  # remembers nothing
        for ours, theirs in zip(kept.epoch(epoch), fresh.epoch(epoch), strict=True):
            assert torch.equal(ours.index, theirs.index)
            assert torch.equal(ours.points, theirs.points)
    assert sum(asked) == COUNT * (3 + 1)
