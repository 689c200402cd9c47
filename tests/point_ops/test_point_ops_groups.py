"""Maxima over groups, and normalisation with ReLU of groups: kernels and references."""

import point_ops
import pytest
import torch
from point_ops import backends, group_max, norm_relu, norm_relu_fixed
from point_ops_cases import module

OPS = torch.ops.point_ops
CPP = backends("cpu")["norm_relu"] == "cpp"
EPS = 1e-5
DTYPES = [torch.bfloat16, torch.float32, torch.float64]


def normal(*shape, dtype=torch.float32, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
# one member; no whole vector of columns; whole ones and a rest; many members
@pytest.mark.parametrize("shape", [(3, 1, 1), (5, 7, 33), (4, 32, 200), (2, 300, 129), (0, 4, 5)])
def test_maxima_are_those_of_torch(dtype, shape):
    rows = (3 * normal(*shape)).round().to(dtype)  # many are equal
    values, index = OPS.group_max(rows)
    expected = rows.max(1)
    assert torch.equal(values, expected.values)
    assert torch.equal(index.long(), expected.indices)
    assert index.dtype == torch.int16
    flow = normal(shape[0], shape[2], dtype=dtype, seed=1)
    placed = torch.zeros_like(rows).scatter(1, expected.indices[:, None], flow[:, None])
    assert torch.equal(OPS.group_max_backward(flow, index, shape[1]), placed)
    assert torch.equal(module("group_max").reference_backward(flow, index, shape[1]), placed)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_nan_is_the_maximum_of_its_group_and_infinities_are_numbers(dtype):
    rows = normal(2, 9, 70, dtype=dtype)
    rows[0, 3, ::7] = torch.nan
    rows[0, 5, ::14] = torch.nan
    rows[1, 2] = torch.inf
    rows[1, 4, 5] = -torch.inf
    values, index = OPS.group_max(rows)
    expected = rows.max(1)
    assert torch.equal(values.isnan(), expected.values.isnan())
    assert torch.equal(values.nan_to_num(), expected.values.nan_to_num())
    assert torch.equal(index.long(), expected.indices)


def test_gradients_of_maxima():
    rows = normal(3, 4, 5, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(group_max, rows)
    assert torch.autograd.gradgradcheck(group_max, rows)


def inputs(groups, size, c, dtype):
    """rows of mean 3, weight, bias and what groups share."""
    wide = torch.promote_types(dtype, torch.float32)
    return (
        (3 + normal(groups * size, c)).to(dtype),
        1 + 0.2 * normal(c, dtype=wide, seed=1),
        normal(c, dtype=wide, seed=2),
        normal(groups, c, dtype=dtype, seed=3),
    )


def plain(rows, weight, bias, shared, kept, group):
    """Output in the dtype of the rows, by torch's simplest operators."""
    if shared is not None:
        rows = rows + shared.repeat_interleave(group, 0)
    variance, mean = torch.var_mean(rows, 0, correction=0)
    out = (rows - mean) / (variance + EPS).sqrt() * weight + bias
    if kept is not None:
        out = out.view(-1, group, out.shape[1])[kept].flatten(0, 1)
    return out.relu(), mean, variance


CASES = [  # groups, size, channels, shared, kept
    (9, 1, 3, False, None),
    (5, 8, 17, True, None),
    (6, 7, 40, True, [5, 0, 3]),
    (40, 32, 64, True, [1]),
    (300, 5, 33, False, range(0, 300, 2)),
    (70, 32, 16, False, []),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("groups", "size", "c", "shares", "keeps"), CASES)
@pytest.mark.parametrize("kind", ["kernel", "reference"])
def test_values_and_gradients_of_the_fused_normalisation(
    kind, groups, size, c, shares, keeps, dtype
):
    rows, weight, bias, shared = inputs(groups, size, c, dtype)
    shared = shared if shares else None
    kept = None if keeps is None else torch.tensor(list(keeps), dtype=torch.int64)
    run, back = (
        (OPS.norm_relu, OPS.norm_relu_backward)
        if kind == "kernel"
        else (module("norm_relu").reference, module("norm_relu").reference_backward)
    )
    out, mean, variance = run(rows, weight, bias, EPS, shared, kept, size, True)
    leaves = [None if t is None else t.double().requires_grad_() for t in (rows, weight, bias)]
    other = None if shared is None else shared.double().requires_grad_()
    expected, mean_64, variance_64 = plain(*leaves, other, kept, size)
    each = {torch.bfloat16: 2e-2, torch.float32: 2e-5, torch.float64: 1e-11}[dtype]
    near = {"rtol": each, "atol": each, "check_dtype": False}
    torch.testing.assert_close(out, expected.detach(), **near)
    torch.testing.assert_close(mean, mean_64.detach(), **near)
    torch.testing.assert_close(variance, variance_64.detach(), **near)
    flow = normal(*out.shape, dtype=dtype, seed=4)
    found = back(flow, out, rows, weight, mean, variance, EPS, shared, kept, size)
    wanted = [leaves[0], *([] if other is None else [other]), *leaves[1:]]
    flow_64 = flow.double().masked_fill(out <= 0, 0)  # where rounding decided between 0 and more
    gradients = list(torch.autograd.grad(expected, wanted, flow_64, allow_unused=True))
    if other is None:
        gradients.insert(1, torch.zeros(0, c))
    for one, exact in zip(found, gradients, strict=True):
        size_of = max(1.0, float(exact.abs().max())) if exact.numel() else 1.0
        torch.testing.assert_close(one, exact, rtol=0, atol=each * size_of * 2, check_dtype=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_more_it_is_the_normalisation_cut_off_at_zero(dtype):
    rows, weight, bias, _ = inputs(700, 1, 48, dtype)
    one, other = norm_relu(rows, weight, bias), point_ops.batch_norm(rows, weight, bias)
    assert torch.equal(one.out, other.out.relu())
    assert torch.equal(one.mean, other.mean)
    assert torch.equal(one.variance, other.variance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shares", [False, True])
def test_given_statistics_are_used(dtype, shares):
    rows, weight, bias, shared = inputs(90, 8, 40, dtype)
    mean, variance = 3 + bias, weight.square()
    shared = shared if shares else None
    out = norm_relu_fixed(rows, weight, bias, mean, variance, group=8, shared=shared)
    whole = rows.double()
    if shared is not None:
        whole = whole + shared.double().repeat_interleave(8, 0)
    expected = (whole - mean.double()) / (variance.double() + EPS).sqrt() * weight + bias
    each = {torch.bfloat16: 2e-2, torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
    torch.testing.assert_close(out.double(), expected.relu(), rtol=each, atol=each)
    assert out.dtype == dtype
    other = module("norm_relu").reference_fixed(rows, weight, bias, mean, variance, EPS, shared, 8)
    torch.testing.assert_close(out, other, rtol=each, atol=each)


def test_given_statistics_have_no_gradient():
    rows, weight, bias, _ = inputs(3, 2, 4, torch.float32)
    out = norm_relu_fixed(rows.requires_grad_(), weight, bias, bias, weight)
    with pytest.raises(NotImplementedError, match="has no gradient"):
        out.sum().backward()


@pytest.mark.parametrize("kept", [None, torch.tensor([2, 0])])
def test_gradients_of_the_fused_normalisation(kept):
    rows, weight, bias, shared = inputs(4, 3, 5, torch.float64)
    arguments = [t.requires_grad_() for t in (rows, weight, bias, shared)]

    def run(rows, weight, bias, shared):
        return norm_relu(rows, weight, bias, group=3, shared=shared, kept=kept).out

    assert torch.autograd.gradcheck(run, arguments)
    assert torch.autograd.gradgradcheck(run, arguments)


def test_a_row_that_nothing_depends_on_may_be_anything():
    rows, weight, bias, shared = inputs(4, 3, 40, torch.float32)
    rows[5, 7] = torch.nan
    leaves = [t.requires_grad_() for t in (rows, weight, bias, shared)]
    out = norm_relu(rows, weight, bias, group=3, shared=shared).out
    used = torch.arange(40) != 7
    for grad in torch.autograd.grad(out[:, used].square().sum(), leaves):
        assert grad.isfinite().all()
        assert not grad[..., 7].any()


@pytest.mark.skipif(not CPP, reason="no C++ kernels here: torch's sums depend on the threads")
def test_fused_sums_are_the_same_bits_with_any_number_of_threads():
    rows, weight, bias, shared = inputs(3000, 16, 24, torch.float32)
    kept = torch.arange(0, 3000, 3)
    flow = normal(1000 * 16, 24, seed=4)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            out = OPS.norm_relu(rows, weight, bias, EPS, shared, kept, 16, True)
            back = OPS.norm_relu_backward(
                flow, out[0], rows, weight, *out[1:], EPS, shared, kept, 16
            )
            found.append((*out, *back))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize(
    ("how", "word"),
    [
        ({"group": 5}, "group"),
        ({"group": 0}, "group"),
        ({"group": 2, "shared": torch.zeros(4, 3)}, "shared"),
        ({"group": 2, "shared": torch.zeros(6, 3).double()}, "shared"),
        ({"kept": torch.tensor([1, 1])}, "kept"),
        ({"kept": torch.tensor([12])}, "kept"),
        ({"kept": torch.tensor([1.0])}, "kept"),
    ],
)
def test_wrong_groups_are_named(how, word):
    if word == "kept" and how["kept"].dtype == torch.int64 and not CPP:
        pytest.skip("torch's index has its own message")
    with pytest.raises(ValueError, match=f"^{word}: expected"):
        norm_relu(torch.zeros(12, 3), torch.ones(3), torch.zeros(3), **how)


@pytest.mark.parametrize(
    "rows", [torch.zeros(3, 4), torch.zeros(2, 0, 3), torch.zeros(2, 1, 3).half()]
)
def test_wrong_rows_of_a_maximum_are_named(rows):
    with pytest.raises(ValueError, match=r"^rows: expected"):
        group_max(rows)
