"""0 * NaN is not 0: what the loss does not depend on has a gradient of zero, whatever it is."""

from __future__ import annotations

import importlib

import point_ops
import pytest
import torch
from torch import Tensor

BAD = [float("nan"), float("inf"), float("-inf")]
SIZES = [(9, 7), (300, 280)]  # a patch, and a cloud: other kernels


@pytest.fixture(params=["installed", "torch"], autouse=True)
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The installed kernels, and the torch forms in their place, which serve on the GPU."""
    if request.param == "torch":
        for name in ("chamfer", "gather", "interpolate", "norm"):
            module = importlib.import_module(f"point_ops.{name}")
            monkeypatch.setattr(module, "_op_backward", module.reference_backward)


def clouds(sizes: tuple[int, int], bad: float) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.rand(2, size, 3, generator=draw) for size in sizes)
    a[0, 0, 1] = bad
    return a.requires_grad_(), b.requires_grad_()


def known(distance: Tensor) -> Tensor:
    """The finite ones: the loss of somebody who masks the others."""
    return torch.where(distance.isfinite(), distance, 0).sum()


def assert_finite(loss: Tensor, *inputs: Tensor) -> list[Tensor]:
    """Loss and gradients are finite; the gradients."""
    assert loss.isfinite()
    found = torch.autograd.grad(loss, inputs, retain_graph=True)
    for grad in found:
        assert grad.isfinite().all()
        assert grad.any()
    return list(found)


def test_the_reported_case() -> None:
    a, b = torch.rand(1, 5, 3), torch.rand(1, 6, 3).requires_grad_()
    a[0, 0] = float("nan")
    point_ops.chamfer(a, b).sqdist_ba.sum().backward()
    expected = torch.autograd.grad(point_ops.chamfer(a[:, 1:], b).sqdist_ba.sum(), b)[0]
    torch.testing.assert_close(b.grad, expected)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("bad", BAD)
class TestClouds:
    def test_chamfer(self, sizes: tuple[int, int], bad: float) -> None:
        a, b = clouds(sizes, bad)
        for one, other in ((a, b), (b, a)):
            found = point_ops.chamfer(one, other)
            assert_finite(found[1 if one is a else 0].sum(), a, b)
            assert_finite(known(found.sqdist_ab) + known(found.sqdist_ba), a, b)
        loss = point_ops.chamfer_l1(a, b, "patch")[1]
        assert not assert_finite(loss, a, b)[0][0].any()

    def test_chamfer_twice(self, sizes: tuple[int, int], bad: float) -> None:
        a, b = clouds(sizes, bad)
        found = point_ops.chamfer(a, b)
        loss = known(found.sqdist_ab.sqrt()) + known(found.sqdist_ba)
        first = torch.autograd.grad(loss, (a, b), create_graph=True)
        assert_finite(sum(grad.square().sum() for grad in first), a, b)

    def test_neighbours(self, sizes: tuple[int, int], bad: float) -> None:
        a, b = clouds(sizes, bad)
        assert_finite(known(point_ops.knn(a, b, 3)[0]), a, b)
        assert_finite(known(point_ops.knn(b, a, sizes[0])[0]), a, b)

    def test_interpolation(self, sizes: tuple[int, int], bad: float) -> None:
        a, b = clouds(sizes, bad)
        features = torch.rand(2, sizes[1], 5).requires_grad_()
        out = point_ops.interpolate(a, b, features)  # to a query that is nowhere
        assert out[0, 0].isnan().all()
        assert_finite(known(out), a, b, features)
        features = torch.rand(2, sizes[0], 5).requires_grad_()
        out = point_ops.interpolate(b, a, features, k=sizes[0])  # from a point that is nowhere
        assert_finite(out.square().sum(), a, b, features)

    def test_soft_matching(self, sizes: tuple[int, int], bad: float) -> None:
        a, b = clouds(sizes, bad)
        match = point_ops.soft_match(a, b)
        assert match.isfinite().all()
        assert not match[0, :, 0].any()
        for squared in (False, True):
            assert_finite(point_ops.match_cost(a, b, match, squared=squared).sum(), a, b)
            cost = point_ops.match_cost(a, b, torch.ones_like(match), squared=squared)
            assert cost[0] == torch.inf
            assert_finite(cost[1], a, b)
        assert_finite(point_ops.earth_movers_distance(a, b, method="soft").sum(), a, b)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("channels", [3, 20])
def test_rows(bad: float, channels: int) -> None:
    draw = torch.Generator().manual_seed(0)
    features = torch.rand(2, 9, channels, generator=draw)
    idx = torch.randint(0, 9, (2, 6, 3), generator=draw)
    weight = torch.rand(2, 6, 3, generator=draw)
    features[0, :, 0] = bad
    features.requires_grad_()
    rows = point_ops.group(features, idx)[..., 1:]
    assert_finite(rows.square().sum(), features)
    weights = weight.clone().requires_grad_()
    out = point_ops.three_interpolate(features, idx, weights)
    assert_finite(out[..., 1:].square().sum(), features, weights)
    weight[0, 0] = bad
    weight.requires_grad_()
    whole = features.detach().clone()
    whole[0, :, 0] = 1
    whole.requires_grad_()
    out = point_ops.three_interpolate(whole, idx, weight)
    assert_finite(out[0, 1:].square().sum() + out[1].sum(), whole, weight)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_channels_of_a_normalisation(bad: float, dtype: torch.dtype) -> None:
    rows = torch.rand(700, 20, generator=torch.Generator().manual_seed(0)).to(dtype)
    rows[3, 4] = bad
    wide = torch.promote_types(dtype, torch.float32)
    scale = torch.rand(20, dtype=wide).requires_grad_()
    shift = torch.rand(20, dtype=wide).requires_grad_()
    rows.requires_grad_()
    out = point_ops.batch_norm(rows, scale, shift).out
    used = torch.arange(20) != 4
    found = assert_finite(out[:, used].square().sum(), rows, scale, shift)
    for grad in found:
        assert not grad[..., 4].any()
    # the other channels as without it
    clean = rows.detach()[:, used].requires_grad_()
    expected = torch.autograd.grad(
        point_ops.batch_norm(clean, scale[used], shift[used]).out.square().sum(), clean
    )[0]
    torch.testing.assert_close(found[0][:, used], expected)


def test_a_gradient_that_is_zero_at_a_finite_point_keeps_its_second_derivative() -> None:
    """Only what is not finite is taken out: (d - 1)^2 has no slope at d = 1, but a curvature."""
    query, point = torch.zeros(1, 1, 3).double().requires_grad_(), torch.tensor([[[1.0, 0, 0]]])

    def loss(x: Tensor) -> Tensor:
        return (point_ops.knn(x, point.double(), 1)[0] - 1).square().sum()

    assert torch.autograd.grad(loss(query), query)[0].tolist() == [[[0, 0, 0]]]
    hessian = torch.autograd.functional.hessian(loss, query).view(3, 3)
    assert hessian[0, 0] == pytest.approx(8)
