"""Batches: deterministic, resumable, shardable, the same whatever sizes clouds have."""

from __future__ import annotations

import dataclasses
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cloud_sets import set_of
from hypothesis import given
from hypothesis import strategies as st

from sa3d.data.loader import Batch, Batches, _bounds
from sa3d.data.preprocessing import unit_sphere
from sa3d.data.store import CloudSet
from sa3d.errors import DataError

COUNT, STORED = 37, 96


@pytest.fixture(scope="module")
def clouds(tmp_path_factory: pytest.TempPathFactory) -> CloudSet:
    return sized(tmp_path_factory.mktemp("loader") / "s.h5", [STORED] * COUNT)


@pytest.fixture(scope="module")
def ragged(tmp_path_factory: pytest.TempPathFactory) -> CloudSet:
    """32 to 96 points; the first has 32, and 36 to 38 are around the pool of ``fps_subset``."""
    sizes = [32, *np.random.default_rng(1).integers(32, STORED, COUNT - 4).tolist(), 36, 37, 38]
    return sized(tmp_path_factory.mktemp("ragged") / "s.h5", sizes)


def sized(path: Path, sizes: list[int], **changes: Any) -> CloudSet:
    return set_of(
        path,
        sizes,
        labels=np.arange(len(sizes)) % 3,
        family=np.arange(len(sizes)),
        class_names=("a", "b", "c"),
        class_parts=((0, 1, 2),) * 3,
        **changes,
    )


def same(a: Batch, b: Batch) -> bool:
    pairs = zip(a, b, strict=True)
    return all(torch.equal(x, y) if x is not None else y is None for x, y in pairs)


def batches(clouds: CloudSet, **changes: object) -> Batches:
    settings: dict = {
        "batch_size": 8,
        "points": 32,
        "seed": 3,
        "shuffle": True,
        "drop_last": True,
        **changes,
    }
    return Batches(clouds, np.arange(len(clouds)), **settings)


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
        stored = clouds.cloud(row)
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
        assert same(a, b)


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
    stored = clouds.cloud(0).astype(np.float64)
    chosen = [0]
    for _ in range(3):
        gap = ((stored[:, None] - stored[chosen]) ** 2).sum(axis=-1).min(axis=1)
        chosen.append(int(gap.argmax()))
    picked = torch.from_numpy(clouds.cloud(0)[chosen])
    centred = picked - picked.mean(dim=0)
    torch.testing.assert_close(batch.points[0], centred / centred.norm(dim=1).max())


def test_refusals(clouds: CloudSet) -> None:
    with pytest.raises(DataError, match=r"97 points asked but cloud 'a/0-µ' .* has 96; set"):
        batches(clouds, points=97)
    with pytest.raises(DataError, match="smaller batch_size"):
        batches(clouds, batch_size=64)
    with pytest.raises(ValueError, match="rank 2 of 2"):
        batches(clouds, rank=2, world=2)
    with pytest.raises(ValueError, match="sampling"):
        batches(clouds, sampling="other")


@pytest.mark.parametrize("sampling", ["random", "fps", "fps_subset"])
@pytest.mark.parametrize("normalisation", ["subsample", "cloud", "none"])
def test_a_cloud_depends_on_seed_epoch_and_row_alone(
    ragged: CloudSet, sampling: str, normalisation: Any
) -> None:
    """Clouds of many sizes: alone, in any batch, resumed or shared out, always the same."""
    clouds = dataclasses.replace(ragged, normalisation=normalisation)
    options = {"sampling": sampling, "parts": True, "drop_last": False}
    whole = list(batches(clouds, **options).epoch(3))
    rest = list(batches(clouds, **options).epoch(3, start=2))
    assert all(same(a, b) for a, b in zip(whole[2:], rest, strict=True))
    halves = [batches(clouds, **options, batch_size=4, rank=r, world=2).epoch(3) for r in (0, 1)]
    for one, left, right in zip(whole, *halves, strict=True):
        for together, a, b in zip(one, left, right, strict=True):
            assert torch.equal(torch.cat((a, b)), together)
    alone = {int(b.index): b for b in batches(clouds, **options, batch_size=1).epoch(3)}
    for batch in whole:
        for at, row in enumerate(batch.index.tolist()):
            assert torch.equal(alone[row].parts[0], batch.parts[at])
            assert torch.equal(alone[row].points[0], batch.points[at])


@pytest.mark.parametrize("sampling", ["random", "fps", "fps_subset"])
def test_parts_are_those_of_the_points(ragged: CloudSet, sampling: str) -> None:
    clouds = dataclasses.replace(ragged, normalisation="none")  # points come as they are stored
    for batch in batches(clouds, sampling=sampling, parts=True).epoch(1):
        assert batch.parts.dtype == torch.int64
        assert torch.equal(batch.category, batch.labels)
        for points, parts, row in zip(batch.points, batch.parts, batch.index.tolist(), strict=True):
            at = {tuple(p): i for i, p in enumerate(clouds.cloud(row).tolist())}
            found = [at[tuple(p)] for p in points.tolist()]
            assert len(set(found)) == 32, "a point came twice"
            assert parts.tolist() == clouds.parts(row)[found].tolist()
    assert next(batches(clouds, sampling=sampling).epoch(1)).parts is None


def test_order_of_normalising_and_choosing(clouds: CloudSet) -> None:
    found = {
        kind: next(
            batches(dataclasses.replace(clouds, normalisation=kind), shuffle=False).epoch(0)
        ).points
        for kind in ("none", "subsample", "cloud")
    }
    torch.testing.assert_close(found["subsample"], unit_sphere(found["none"]))
    for row in range(8):
        whole = torch.tensor(clouds.cloud(row))
        mean = whole.mean(dim=0)
        expected = (found["none"][row] - mean) / (whole - mean).norm(dim=1).max()
        torch.testing.assert_close(found["cloud"][row], expected)
    radii = found["cloud"].norm(dim=2).amax(dim=1)
    assert (radii < 0.999).any(), "scaled again after choosing"


def test_clouds_that_are_too_small_are_named(tmp_path: Path) -> None:
    clouds = sized(tmp_path / "s.h5", [40, 31, 50])
    with pytest.raises(
        DataError, match=r"32 points asked but cloud 'a/1-µ'.*set data.points to 31"
    ):
        batches(clouds, batch_size=1)
    Batches(
        clouds,
        np.array([0, 2]),  # the small one is not among these
        batch_size=1,
        points=32,
        seed=0,
        shuffle=False,
        drop_last=False,
    )


@pytest.mark.parametrize("sampling", ["random", "fps", "fps_subset"])
def test_a_small_cloud_repeats_its_points_where_that_is_allowed(
    tmp_path: Path, sampling: str
) -> None:
    clouds = sized(tmp_path / "s.h5", [20, 32, 70], normalisation="none")
    made = batches(clouds, sampling=sampling, batch_size=1, parts=True, repeat=True)
    for batch in made.epoch(0):
        row = int(batch.index[0])
        stored = {
            tuple(p): int(q) for p, q in zip(clouds.cloud(row), clouds.parts(row), strict=True)
        }
        seen = [tuple(p) for p in batch.points[0].numpy()]
        assert len(seen) == 32
        assert len(set(seen)) == min(32, len(stored))
        assert [stored[p] for p in seen] == batch.parts[0].tolist()


def test_parts_of_a_set_without(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no part labels"):
        batches(set_of(tmp_path / "s.h5", [40] * 3, parts=False), batch_size=1, parts=True)


def test_fps_subset_is_a_random_part_of_more_farthest_points(clouds: CloudSet) -> None:
    """What comes is 13 of the 15 farthest points from one of the cloud's points on."""
    from point_ops import farthest_point_sample

    assert (1024 * 75 // 64, 2048 * 75 // 64) == (1200, 2400)  # the published sizes
    asked, pool = 13, 15
    loader = batches(clouds, sampling="fps_subset", shuffle=False, points=asked)
    stored = torch.from_numpy(clouds.cloud(0).copy())
    starts = set()
    for epoch in range(6):
        first, again = next(loader.epoch(epoch)), next(loader.epoch(epoch))
        assert torch.equal(first.points, again.points)
        matches = []
        for start in range(STORED):
            farthest = stored[farthest_point_sample(stored[None], pool, start=start)[0]]
            # scaled to the unit sphere, one of the 105 subsets of the pool is what came
            parts = torch.tensor(list(combinations(range(pool), asked)))
            candidates = unit_sphere(farthest[parts])
            gaps = torch.cdist(candidates, first.points[:1].expand(len(parts), -1, -1))
            if (gaps.amin(1).amax(1) < 1e-5).any():
                matches.append(start)
        assert matches, "no farthest points of any start"
        starts.add(tuple(matches))
    assert len(starts) > 1, "every epoch begins at the same point"


def test_fine_tuning_sees_most_points_of_a_cloud(tmp_path: Path) -> None:
    """Over 20 epochs of 1024 of 8192 points, where one pool for ever would show 15 %."""
    clouds = dataclasses.replace(set_of(tmp_path / "s.h5", [8192] * 2), normalisation="none")
    loader = batches(clouds, sampling="fps_subset", points=1024, batch_size=2, shuffle=False)
    seen: list[set[tuple[float, ...]]] = [set(), set()]
    for epoch in range(20):
        for points, mine in zip(next(loader.epoch(epoch)).points, seen, strict=True):
            mine.update(map(tuple, points.tolist()))
    shares = [len(mine) / 8192 for mine in seen]
    assert min(shares) > 0.65
