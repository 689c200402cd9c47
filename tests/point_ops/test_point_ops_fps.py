"""Farthest point sampling."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from point_ops import farthest_point_sample
from point_ops_cases import DTYPES, KINDS, cloud, module

reference = module("fps").reference


def test_known_indices():
    line = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [4, 0, 0], [10, 0, 0], [6, 0, 0]]])
    assert farthest_point_sample(line, 5).tolist() == [[0, 3, 2, 4, 1]]
    assert farthest_point_sample(line, 3, start=2).tolist() == [[2, 3, 0]]


def test_ties_take_the_lower_index():
    square = torch.tensor([[[0.0, 0, 0], [1, 1, 0], [1, 0, 0], [0, 1, 0]]])
    assert farthest_point_sample(square, 4).tolist() == [[0, 1, 2, 3]]
    same = torch.ones(1, 6, 3)
    assert farthest_point_sample(same, 3, start=2).tolist() == [[2, 0, 0]]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "s"), [(1, 1), (2, 2), (33, 20), (300, 300), (1500, 400)])
def test_equals_reference(n, s, kind, dtype):
    points = cloud(3, n, kind, dtype)
    start = torch.full((3,), min(2, n - 1))
    expected = reference(points.contiguous(), start, None, s)
    assert torch.equal(farthest_point_sample(points, s, start=min(2, n - 1)), expected)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "s"), [(8192, 1024), (10_000, 8192)])
def test_equals_reference_large(n, s, kind):
    points = cloud(2, n, kind)
    start = torch.zeros(2, dtype=torch.int64)
    expected = reference(points.contiguous(), start, None, s)
    assert torch.equal(farthest_point_sample(points, s), expected)


def test_lengths_keep_to_the_valid_points():
    points = cloud(3, 50)
    lengths = torch.tensor([1, 13, 50])
    idx = farthest_point_sample(points, 13, lengths=lengths)
    assert (idx < lengths[:, None]).all()
    alone = farthest_point_sample(points[1:2, :13], 13)
    assert torch.equal(idx[1:2], alone)
    assert idx[0].tolist() == [0] * 13  # the one point, repeated
    assert torch.equal(idx, farthest_point_sample(points, 13, lengths=[1, 13, 50]))


def test_random_start_follows_the_generator():
    points = cloud(64, 40)
    one = farthest_point_sample(
        points, 5, start="random", generator=torch.Generator().manual_seed(3)
    )
    two = farthest_point_sample(
        points, 5, start="random", generator=torch.Generator().manual_seed(3)
    )
    assert torch.equal(one, two)
    assert one[:, 0].unique().numel() > 10
    short = farthest_point_sample(points, 1, start="random", lengths=[2] * 64)
    assert set(short.flatten().tolist()) == {0, 1}


def test_half_precision_is_sampled_as_float32():
    points = cloud(2, 64).bfloat16()
    assert torch.equal(farthest_point_sample(points, 9), farthest_point_sample(points.float(), 9))


def test_empty_batch():
    assert farthest_point_sample(torch.empty(0, 10, 3), 4).shape == (0, 4)


def test_no_point_near_the_origin_is_skipped():
    points = torch.tensor([[[5.0, 0, 0], [0.001, 0, 0], [5.01, 0, 0]]])
    assert farthest_point_sample(points, 2).tolist() == [[0, 1]]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 10**6))
def test_each_pick_maximises_the_minimum_distance(n, s, seed):
    s = min(s, n)
    points = torch.randint(-3, 4, (1, n, 3), generator=torch.Generator().manual_seed(seed)).float()
    idx = farthest_point_sample(points, s, start=seed % n)[0]
    distance = torch.cdist(points[0].double(), points[0].double())
    for k in range(1, s):
        nearest = distance[:, idx[:k]].min(1).values
        best = nearest.max()
        assert nearest[idx[k]] == best
        assert idx[k] == (nearest == best).nonzero()[0, 0]  # ties: the lowest index


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((torch.zeros(4, 3), 2), "points"),
        ((torch.zeros(1, 4, 2), 2), "points"),
        ((torch.zeros(1, 4, 3, dtype=torch.int64), 2), "points"),
        (([[0.0]], 2), "points"),
        ((torch.zeros(1, 4, 3), 0), "n_samples"),
        ((torch.zeros(1, 4, 3), 5), "n_samples"),
        ((torch.zeros(1, 4, 3), 2.0), "n_samples"),
    ],
)
def test_wrong_arguments_are_named(arguments, word):
    with pytest.raises(ValueError, match=f"^{word}: expected"):
        farthest_point_sample(*arguments)


@pytest.mark.parametrize(
    ("keywords", "word"),
    [
        ({"start": 4}, "start"),
        ({"start": -1}, "start"),
        ({"start": "first"}, "start"),
        ({"lengths": [5]}, "lengths"),
        ({"lengths": [0]}, "lengths"),
        ({"lengths": [1, 2]}, "lengths"),
        ({"lengths": [1.5]}, "lengths"),
    ],
)
def test_wrong_keywords_are_named(keywords, word):
    with pytest.raises(ValueError, match=f"^{word}: expected"):
        farthest_point_sample(torch.zeros(1, 4, 3), 2, **keywords)
