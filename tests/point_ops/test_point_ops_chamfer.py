"""Chamfer distance and earth mover's distance."""

import pytest
import torch
from point_ops import (
    assignment,
    chamfer,
    chamfer_l1,
    chamfer_l2,
    earth_movers_distance,
    match_cost,
    soft_match,
)
from point_ops_cases import DTYPES, KINDS, cloud, module


def test_known_distances():
    a = torch.tensor([[[0.0, 0, 0], [2, 0, 0]]])
    b = torch.tensor([[[0.0, 1, 0], [2, 0, 2], [9, 0, 0]]])
    found = chamfer(a, b)
    assert found.sqdist_ab.tolist() == [[1, 4]]
    assert found.sqdist_ba.tolist() == [[1, 4, 49]]
    assert found.idx_ab.tolist() == [[0, 1]]
    assert found.idx_ba.tolist() == [[0, 1, 1]]
    assert chamfer_l2(a, b).item() == pytest.approx(2.5 + 18)
    assert chamfer_l1(a, b).item() == pytest.approx((1.5 + 10 / 3) / 2)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 7), (32, 32), (17, 70), (300, 129), (300, 260)])
def test_equals_the_distance_matrix(n, m, kind, dtype):
    a, b = cloud(3, n, kind, dtype), cloud(3, m, "grid" if kind == "grid" else "normal", dtype, 5)
    total = 0
    for axis in range(3):
        total = total + (a[:, :, None, axis] - b[:, None, :, axis]) ** 2
    total = total.masked_fill(total.isnan(), torch.inf)
    found = chamfer(a, b)
    for value, index, axis in (
        (found.sqdist_ab, found.idx_ab, 2),
        (found.sqdist_ba, found.idx_ba, 1),
    ):
        assert torch.equal(value, total.min(axis).values)
        first = (total == total.min(axis, keepdim=True).values).int().argmax(axis)
        assert torch.equal(index, first)


def test_gradient_equals_autograd_of_the_distance_matrix():
    a, b = cloud(2, 20).requires_grad_(), cloud(2, 31, seed=2).requires_grad_()
    got = torch.autograd.grad(chamfer_l2(a, b), (a, b))
    square = (a[:, :, None] - b[:, None]).square().sum(-1)
    loss = square.min(2).values.mean() + square.min(1).values.mean()
    for one, other in zip(got, torch.autograd.grad(loss, (a, b)), strict=True):
        torch.testing.assert_close(one, other)


def test_gradient_of_one_direction_alone():
    a, b = cloud(2, 20).requires_grad_(), cloud(2, 31, seed=2).requires_grad_()
    square = (a[:, :, None] - b[:, None]).square().sum(-1)
    for way, axis in ((0, 2), (1, 1)):
        got = torch.autograd.grad(chamfer(a, b)[way].sum(), (a, b))  # one value, expanded
        loss = square.min(axis).values.sum()
        wanted = torch.autograd.grad(loss, (a, b), retain_graph=True)
        for one, other in zip(got, wanted, strict=True):
            torch.testing.assert_close(one, other)


def test_gradcheck_in_double():
    a = cloud(2, 5, dtype=torch.float64).requires_grad_()
    b = cloud(2, 6, dtype=torch.float64, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: chamfer(a, b)[:2], (a, b))
    assert torch.autograd.gradcheck(lambda a, b: chamfer_l1(a, b, "patch"), (a, b))


def test_second_gradients_in_double():
    a = cloud(2, 5, dtype=torch.float64).requires_grad_()
    b = cloud(2, 6, dtype=torch.float64, seed=3).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda a, b: chamfer(a, b)[:2], (a, b))
    assert torch.autograd.gradgradcheck(lambda a, b: chamfer_l1(a, b, "patch"), (a, b))
    for one, other in ((a, b.detach()), (b, a.detach())):  # one output of the backward is empty
        assert torch.autograd.gradgradcheck(lambda x, y=other: chamfer(x, y)[:2], one)
        assert torch.autograd.gradgradcheck(lambda x, y=other: chamfer(y, x)[:2], one)


def test_gradient_penalty_equals_that_of_the_distance_matrix():
    a, b = cloud(2, 9).requires_grad_(), cloud(2, 7, seed=2).requires_grad_()
    square = (a.unsqueeze(2) - b.unsqueeze(1)).square().sum(-1)
    plain = square.min(2).values.mean() + square.min(1).values.mean()
    results = []
    for loss in (chamfer_l2(a, b), plain):
        (flow,) = torch.autograd.grad(loss, a, create_graph=True)
        results.append(torch.autograd.grad(flow.square().sum(), (a, b)))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_only_the_asked_gradient():
    a, b = cloud(2, 5).requires_grad_(), cloud(2, 6)
    chamfer_l2(a, b).backward()
    assert a.grad.shape == a.shape
    assert b.grad is None


def test_patch_reduction_folds_leading_axes():
    a, b = cloud(12, 8).view(3, 4, 8, 3), cloud(12, 9, seed=4).view(3, 4, 9, 3)
    patch = chamfer_l2(a, b, "patch")
    assert patch.shape == (3, 4)
    torch.testing.assert_close(patch.mean(), chamfer_l2(a, b))
    torch.testing.assert_close(patch[1, 2], chamfer_l2(a[1, 2:3], b[1, 2:3]))
    assert chamfer_l1(a, b, "patch").shape == (3, 4)


def test_l1_gradient_at_zero_distance_is_zero():
    a = torch.zeros(1, 2, 3, requires_grad=True)
    loss = chamfer_l1(a, torch.zeros(1, 2, 3))
    loss.backward()
    assert loss.item() < 1e-18
    assert torch.equal(a.grad, torch.zeros(1, 2, 3))


def test_half_and_mixed_precision():
    a, b = cloud(2, 9), cloud(2, 9, seed=1)
    a16 = a.bfloat16().requires_grad_()
    loss = chamfer_l2(a16, b)
    assert loss.dtype == torch.float32
    loss.backward()
    assert a16.grad.dtype == torch.bfloat16
    torch.testing.assert_close(loss, chamfer_l2(a16.float(), b))


def test_empty_batch():
    found = chamfer(torch.empty(0, 3, 3), torch.empty(0, 4, 3))
    assert found.idx_ab.shape == (0, 3)
    assert found.sqdist_ba.shape == (0, 4)


def test_reference_agrees_with_the_kernel_in_slices():
    a, b = cloud(2, 1100), cloud(2, 1000, "grid", seed=6)  # more than one slice of the reference
    for one, other in zip(module("chamfer").reference(a, b), chamfer(a, b), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("method", ["auction", "exact"])
def test_known_matching(method):
    a = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]])
    b = torch.tensor([[[2.1, 0, 0], [0, 0.1, 0], [1.2, 0, 0]]])
    assert assignment(a, b, method=method).tolist() == [[1, 2, 0]]
    cost = earth_movers_distance(a, b, method=method)
    torch.testing.assert_close(cost, torch.tensor([(0.1 + 0.1 + 0.2) / 3]))


@pytest.mark.parametrize("n", [1, 2, 33, 256])
def test_auction_is_near_the_optimum(n):
    a, b = cloud(3, n) / 3, cloud(3, n, seed=11) / 3
    idx = assignment(a, b)
    assert torch.equal(idx.sort(-1).values, torch.arange(n).expand(3, n))
    cost = earth_movers_distance(a, b)
    best = earth_movers_distance(a, b, method="exact")
    assert (cost >= best - 1e-6).all()
    assert (cost <= best + 1e-3).all()  # the promise
    assert (cost <= 1.005 * best).all()


def test_reference_auction_keeps_the_promise():
    a, b = cloud(2, 24) / 3, cloud(2, 24, seed=12) / 3
    idx = module("emd").reference(a, b, 1e-3)
    assert torch.equal(idx.sort(-1).values, torch.arange(24).expand(2, 24))
    cost = (a - torch.stack([b[i][idx[i]] for i in range(2)])).norm(dim=-1).mean(-1)
    assert (cost <= earth_movers_distance(a, b, method="exact") + 1e-3).all()


def test_auction_of_equal_points_ends():
    same = torch.ones(1, 40, 3)
    assert assignment(same, same)[0].sort().values.tolist() == list(range(40))
    grid = cloud(2, 64, "grid")
    assert torch.equal(assignment(grid, grid).sort(-1).values, torch.arange(64).expand(2, 64))
    assert earth_movers_distance(grid, grid, eps=1e-9).max() < 1e-2
    assert earth_movers_distance(1e6 + grid, grid, eps=1e-9).shape == (2,)


def test_emd_gradient_is_the_unit_vector_of_each_pair():
    a = torch.tensor([[[0.0, 0, 0], [5, 0, 0]]], requires_grad=True)
    b = torch.tensor([[[5.0, 2, 0], [0, 0, 3]]])
    earth_movers_distance(a, b).sum().backward()
    torch.testing.assert_close(a.grad, torch.tensor([[[0.0, 0, -0.5], [0, -0.5, 0]]]))


@pytest.mark.parametrize(("n", "m"), [(8, 8), (4, 8), (8, 4)])
def test_soft_match_carries_all_the_mass(n, m):
    a, b = cloud(2, n), cloud(2, m, seed=3)
    match = soft_match(a, b)
    assert match.shape == (2, m, n)
    assert (match >= 0).all()
    torch.testing.assert_close(
        match.sum((1, 2)), torch.full((2,), float(max(n, m))), rtol=0.05, atol=0
    )
    same = soft_match(a, a)[0]
    assert torch.equal(same.argmax(0), torch.arange(n))


def test_match_cost_gradient():
    a, b = (
        cloud(1, 4, dtype=torch.float64).requires_grad_(),
        cloud(1, 4, dtype=torch.float64, seed=2),
    )
    match = soft_match(a, b)
    for squared in (False, True):
        assert torch.autograd.gradcheck(lambda x, s=squared: match_cost(x, b, match, squared=s), a)
    assert earth_movers_distance(a, b, method="soft").shape == (1,)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda a, b: chamfer(a[0], b), "a"),
        (lambda a, b: chamfer(a, b[..., :2]), "b"),
        (lambda a, b: chamfer(a, b[:1]), "b"),
        (lambda a, b: chamfer(a[:, :0], b), "a"),
        (lambda a, b: chamfer(a, b.int()), "b"),
        (lambda a, b: chamfer(a, b.to("meta")), "b"),
        (lambda a, b: chamfer_l2(a, b, "sum"), "reduction"),
        (lambda a, b: chamfer_l2(a[0], b[0]), "a"),
        (lambda a, b: chamfer_l1(a, b[:1]), "b"),
        (lambda a, b: assignment(a, b[:, :3]), "b"),
        (lambda a, b: assignment(a, b, method="fast"), "method"),
        (lambda a, b: assignment(a, b, eps=0), "eps"),
        (lambda a, b: assignment(a, b * torch.nan), "a, b"),
        (lambda a, b: assignment(a * torch.inf, b, method="exact"), "a, b"),
        (lambda a, b: assignment(a, b * torch.nan, method="exact"), "a, b"),
        (lambda a, b: earth_movers_distance(a, b, method="best"), "method"),
        (lambda a, b: match_cost(a, b, torch.zeros(2, 4, 3)), "match"),
    ],
)
def test_wrong_arguments_are_named(call, word):
    with pytest.raises(ValueError, match=f"^{word}: expected"):
        call(torch.rand(2, 4, 3), torch.rand(2, 4, 3))
