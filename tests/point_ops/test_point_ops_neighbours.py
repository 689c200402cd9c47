"""k nearest neighbours and ball query."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from point_ops import ball_query, knn, three_nn
from point_ops_cases import DTYPES, KINDS, cloud, module


def brute(queries, points, k):
    """Neighbours by a stable sort of distances in the same arithmetic: x, then y, then z."""
    total = 0
    for axis in range(points.shape[-1]):
        total = total + (queries[..., axis, None] - points[:, None, :, axis]) ** 2
    total = total.masked_fill(total.isnan(), torch.inf)
    value, order = torch.sort(total, dim=-1, stable=True)
    return value[..., :k], order[..., :k]


def test_known_neighbours():
    points = torch.tensor([[[0.0, 0, 0], [3, 0, 0], [1, 0, 0], [0, 2, 0]]])
    sqdist, idx = knn(torch.tensor([[[0.9, 0, 0], [0, 0, 0]]]), points, 3)
    assert idx.tolist() == [[[2, 0, 1], [0, 2, 3]]]
    torch.testing.assert_close(sqdist, torch.tensor([[[0.01, 0.81, 4.41], [0.0, 1.0, 4.0]]]))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("m", "n", "k"),
    [(1, 1, 1), (5, 3, 3), (7, 100, 16), (9, 130, 32), (4, 700, 100), (3, 700, 700), (6, 2048, 5)],
)
def test_equals_brute_force(m, n, k, kind, dtype):
    points, queries = cloud(2, n, kind, dtype), cloud(2, m, "normal", dtype, seed=1)
    queries[:, 0] = points[:, 0]
    sqdist, idx = knn(queries, points, k)
    expected_sqdist, expected_idx = brute(queries, points, k)
    assert torch.equal(idx, expected_idx)
    assert torch.equal(sqdist, expected_sqdist)


@pytest.mark.parametrize("dims", [1, 2, 5, 64])
def test_other_dimensions(dims):
    draw = torch.Generator().manual_seed(dims)
    points, queries = (
        torch.randn(2, 300, dims, generator=draw),
        torch.randn(2, 9, dims, generator=draw),
    )
    found = knn(queries, points, 7)
    assert torch.equal(found[1], brute(queries, points, 7)[1])


def test_exact_where_the_matmul_form_cancels():
    points = 1000 + 1e-2 * cloud(1, 400)
    queries = points[:, :50] + 1e-3
    exact = torch.cdist(queries.double(), points.double()).argsort(-1)[..., :4]
    assert torch.equal(knn(queries, points, 4)[1][..., 0], exact[..., 0])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 300), st.integers(1, 300), st.integers(0, 10**6))
def test_knn_agrees_with_brute_force(m, n, k, seed):
    k = min(k, n)
    draw = torch.Generator().manual_seed(seed)
    points = torch.randint(-4, 5, (1, n, 3), generator=draw).float()
    queries = torch.randint(-4, 5, (1, m, 3), generator=draw).float()
    sqdist, idx = knn(queries, points, k)
    expected = brute(queries, points, k)
    assert torch.equal(idx, expected[1])
    assert torch.equal(sqdist, expected[0])


def test_mixed_and_half_precision():
    points, queries = cloud(1, 40), cloud(1, 5, seed=3)
    assert knn(queries.double(), points, 3)[0].dtype == torch.float64
    half = knn(queries.bfloat16(), points.bfloat16(), 3)
    assert half[0].dtype == torch.float32
    assert torch.equal(half[1], knn(queries.bfloat16().float(), points.bfloat16().float(), 3)[1])


def test_empty_batch_and_no_queries():
    assert knn(torch.empty(0, 4, 3), torch.empty(0, 9, 3), 2)[1].shape == (0, 4, 2)
    assert knn(torch.empty(2, 0, 3), torch.zeros(2, 9, 3), 2)[0].shape == (2, 0, 2)
    assert ball_query(torch.empty(2, 0, 3), torch.zeros(2, 9, 3), 1.0, 2).shape == (2, 0, 2)


def test_gradient_of_knn():
    queries = cloud(2, 4, dtype=torch.float64, seed=5).requires_grad_()
    points = cloud(2, 9, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda q, p: knn(q, p, 3)[0], (queries, points))


def test_three_nn_is_knn_of_three():
    queries, points = cloud(2, 6, seed=8), cloud(2, 20)
    for one, other in zip(three_nn(queries, points), knn(queries, points, 3), strict=True):
        assert torch.equal(one, other)


def test_known_ball():
    points = torch.tensor([[[9.0, 0, 0], [0.1, 0, 0], [0, 0.2, 0], [0, 0, 1.0]]])
    queries = torch.tensor([[[0.0, 0, 0], [50, 0, 0]]])
    idx = ball_query(queries, points, 1.0, 4)
    assert idx.tolist() == [[[1, 2, 1, 1], [0, 0, 0, 0]]]  # at the radius is outside; empty is 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "k"), [(1, 4), (60, 3), (300, 32), (300, 400)])
def test_ball_query_definition(n, k, kind, dtype):
    points, queries = cloud(2, n, kind, dtype), cloud(2, 7, "normal", dtype, seed=2)
    idx = ball_query(queries, points, 0.9, k)
    limit = torch.tensor(0.9, dtype=dtype) ** 2
    for b in range(2):
        for q in range(7):
            total = 0
            for axis in range(3):
                total = total + (queries[b, q, axis] - points[b, :, axis]) ** 2
            inside = (total < limit).nonzero()[:, 0][:k]
            expected = torch.zeros(k, dtype=torch.int64)
            if len(inside):
                expected[:] = inside[0]
                expected[: len(inside)] = inside
            assert torch.equal(idx[b, q], expected)


def test_references_agree_with_the_kernels():
    points, queries = cloud(3, 200, "grid"), cloud(3, 40, seed=4)
    for one, other in zip(
        module("knn").reference(queries, points, 9), knn(queries, points, 9), strict=True
    ):
        assert torch.equal(one, other)
    expected = module("ball_query").reference(queries, points, 1.5, 12)
    assert torch.equal(ball_query(queries, points, 1.5, 12), expected)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda q, p: knn(q[0], p, 2), "queries"),
        (lambda q, p: knn(q, p[..., :2], 2), "points"),
        (lambda q, p: knn(q, p[:1], 2), "points"),
        (lambda q, p: knn(q, p, 0), "k"),
        (lambda q, p: knn(q, p, 11), "k"),
        (lambda q, p: knn(q, p, True), "k"),
        (lambda q, p: knn(q, p.long(), 2), "points"),
        (lambda q, p: knn(q, p.to("meta"), 2), "points"),
        (lambda q, p: three_nn(q, p[:, :2]), "k"),
        (lambda q, p: ball_query(q, p, 0.0, 2), "radius"),
        (lambda q, p: ball_query(q, p, float("nan"), 2), "radius"),
        (lambda q, p: ball_query(q, p, 1.0, 0), "k"),
        (lambda q, p: ball_query(q, p[:, :0], 1.0, 1), "points"),
        (lambda q, p: ball_query(q[..., :2], p[..., :2], 1.0, 1), "queries"),
    ],
)
def test_wrong_arguments_are_named(call, word):
    with pytest.raises(ValueError, match=f"^{word}: expected"):
        call(torch.zeros(2, 4, 3), torch.zeros(2, 10, 3))
