"""Gather, group and interpolation."""

import pytest
import torch
from point_ops import gather, group, interpolate, knn, three_interpolate
from point_ops_cases import cloud, module


def rows(batch, n, c, dtype=torch.float32, seed=0):
    return torch.randn(
        batch, n, c, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    ).to(dtype)


def picks(batch, *shape, below, seed=0):
    return torch.randint(0, below, (batch, *shape), generator=torch.Generator().manual_seed(seed))


def test_known_rows():
    points = torch.arange(12.0).view(1, 4, 3)
    assert gather(points, torch.tensor([[3, 0]])).tolist() == [[[9, 10, 11], [0, 1, 2]]]
    assert group(points, torch.tensor([[[1], [1]]])).shape == (1, 2, 1, 3)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int32, torch.bool]
)
@pytest.mark.parametrize("c", [1, 3, 17])
def test_any_dtype(dtype, c):
    points, idx = (10 * rows(2, 9, c)).to(dtype), picks(2, 5, 4, below=9)
    expected = torch.stack([points[b][idx[b]] for b in range(2)])
    assert torch.equal(group(points, idx), expected)
    assert torch.equal(group(points, idx.int()), expected)
    flipped = points.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(gather(flipped, idx[..., 0]), expected[:, :, 0])


def test_gradient_sums_repeated_rows():
    points = torch.zeros(1, 3, 2, requires_grad=True)
    gather(points, torch.tensor([[1, 1, 2]])).sum().backward()
    assert points.grad.tolist() == [[[0, 0], [2, 2], [1, 1]]]


@pytest.mark.parametrize("c", [1, 3, 40])
def test_gradients_in_double(c):
    points, idx = rows(2, 6, c, torch.float64).requires_grad_(), picks(2, 4, 3, below=6)
    assert torch.autograd.gradcheck(lambda p: group(p, idx), points)
    assert torch.autograd.gradgradcheck(lambda p: group(p, idx), points)


def test_half_gradient_is_summed_in_float32():
    points = torch.zeros(1, 2, 1, dtype=torch.bfloat16, requires_grad=True)
    gather(points, torch.zeros(1, 1000, dtype=torch.int64)).sum().backward()
    assert points.grad[0, 0, 0] == 1000  # a bfloat16 sum would stop at 256


def test_empty():
    assert gather(torch.empty(0, 4, 3), torch.empty(0, 2, dtype=torch.int64)).shape == (0, 2, 3)
    assert gather(torch.empty(2, 0, 3), torch.empty(2, 0, dtype=torch.int64)).shape == (2, 0, 3)


@pytest.mark.parametrize("bad", [-1, 4, 2**40])
def test_an_index_out_of_range_is_an_error(bad):
    points, idx = torch.zeros(1, 4, 3), torch.tensor([[[0, bad, 1]]])
    with pytest.raises(ValueError, match=r"idx: expected values in 0\.\.3"):
        group(points, idx)
    with pytest.raises(ValueError, match=r"idx: expected values in 0\.\.3"):
        three_interpolate(points, idx, torch.ones(1, 1, 3))


def test_known_interpolation():
    points = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [9, 0, 0]]])
    features = torch.tensor([[[1.0], [3.0], [100.0]]])
    out = interpolate(torch.tensor([[[0.5, 0, 0], [1.0, 0, 0]]]), points, features, k=2)
    torch.testing.assert_close(out, torch.tensor([[[2.0], [3.0]]]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("m", "n", "c"), [(1, 3, 1), (50, 9, 5), (130, 40, 96), (7, 20, 17)])
def test_interpolation_formula(m, n, c):
    queries, points, features = cloud(2, m, seed=3), cloud(2, n), rows(2, n, c)
    distance = torch.cdist(queries.double(), points.double()) ** 2
    value, idx = distance.topk(3, largest=False)
    weight = 1 / (value + 1e-8)
    weight = weight / weight.sum(-1, keepdim=True)
    neighbours = torch.stack([features[b][idx[b]] for b in range(2)]).double()
    expected = (weight[..., None] * neighbours).sum(2)
    torch.testing.assert_close(
        interpolate(queries, points, features).double(), expected, rtol=1e-4, atol=1e-5
    )


def test_interpolation_gradients_in_double():
    features = rows(2, 6, 5, torch.float64).requires_grad_()
    weight = rows(2, 4, 3, torch.float64, seed=1).requires_grad_()
    idx = picks(2, 4, 3, below=6)
    assert torch.autograd.gradcheck(lambda f, w: three_interpolate(f, idx, w), (features, weight))
    queries = cloud(2, 4, dtype=torch.float64, seed=9).requires_grad_()
    points = cloud(2, 6, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *x: interpolate(*x, eps=1e-2), (queries, points, features)
    )


def test_second_interpolation_gradients_in_double():
    features = rows(2, 6, 5, torch.float64).requires_grad_()
    weight = rows(2, 4, 3, torch.float64, seed=1).requires_grad_()
    idx = picks(2, 4, 3, below=6)
    check = torch.autograd.gradgradcheck
    assert check(lambda f, w: three_interpolate(f, idx, w), (features, weight))
    assert check(lambda f: three_interpolate(f, idx, weight.detach()), features)
    assert check(lambda w: three_interpolate(features.detach(), idx, w), weight)
    queries = cloud(2, 4, dtype=torch.float64, seed=9).requires_grad_()
    points = cloud(2, 6, dtype=torch.float64).requires_grad_()
    assert check(lambda *x: interpolate(*x, eps=1e-2), (queries, points, features))


def test_gradient_equals_autograd_of_the_reference():
    features, idx = rows(3, 30, 33).requires_grad_(), picks(3, 70, 3, below=30)
    weight = rows(3, 70, 3, seed=4).requires_grad_()
    flow = rows(3, 70, 33, seed=5)
    got = torch.autograd.grad(three_interpolate(features, idx, weight), (features, weight), flow)
    gathered = torch.stack([features[b][idx[b]] for b in range(3)])
    expected = torch.autograd.grad((gathered * weight[..., None]).sum(2), (features, weight), flow)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_half_features_come_back_half():
    features, idx = rows(1, 5, 4).bfloat16(), picks(1, 3, 3, below=5)
    weight = torch.full((1, 3, 3), 1 / 3)
    out = three_interpolate(features, idx, weight)
    assert out.dtype == torch.bfloat16
    exact = three_interpolate(features.float(), idx, weight)
    torch.testing.assert_close(out.float(), exact, rtol=1e-2, atol=1e-2)


def test_references_agree_with_the_kernels():
    features, idx, weight = rows(3, 40, 33), picks(3, 77, 3, below=40), rows(3, 77, 3, seed=2)
    flow = rows(3, 77, 33, seed=6)
    reference, ops = module("interpolate"), torch.ops.point_ops
    torch.testing.assert_close(
        reference.reference(features, idx, weight), ops.interpolate(features, idx, weight)
    )
    for need in (True, False):
        expected = reference.reference_backward(flow, features, idx, weight, need)
        got = ops.interpolate_backward(flow, features, idx, weight, need)
        for one, other in zip(got, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    expected = module("gather").reference_backward(flow, idx[..., 0], 40)
    torch.testing.assert_close(
        ops.gather_backward(flow, idx[..., 0], 40), expected, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda f, i, w: gather(f[0], i[..., 0]), "points"),
        (lambda f, i, w: gather(f, i), "idx"),
        (lambda f, i, w: gather(f, i[..., 0].float()), "idx"),
        (lambda f, i, w: group(f, i[:1]), "idx"),
        (lambda f, i, w: group(f, i.to("meta")), "idx"),
        (lambda f, i, w: three_interpolate(f.long(), i, w), "features"),
        (lambda f, i, w: three_interpolate(f, i, w[..., :2]), "weight"),
        (lambda f, i, w: three_interpolate(f, i, w.long()), "weight"),
    ],
)
def test_wrong_arguments_are_named(call, word):
    with pytest.raises(ValueError, match=f"^{word}: expected"):
        call(torch.zeros(2, 5, 4), torch.zeros(2, 3, 3, dtype=torch.int64), torch.zeros(2, 3, 3))


@pytest.mark.parametrize("shape", [(2, 31, 4), (2, 29, 4), (1, 30, 4), (2, 30)])
def test_interpolation_wants_one_row_a_point(shape):
    with pytest.raises(ValueError, match=r"^features: expected"):
        interpolate(cloud(2, 5), cloud(2, 30), torch.zeros(shape))


def test_interpolating_at_the_points_returns_the_features():
    points, features = cloud(2, 30), rows(2, 30, 8)
    assert knn(points, points, 1)[0].max() == 0
    torch.testing.assert_close(
        interpolate(points, points, features), features, rtol=1e-4, atol=1e-4
    )
