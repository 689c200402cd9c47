"""Batch normalisation of rows: kernels and reference against float64."""

import pytest
import torch
from point_ops import backends, batch_norm
from point_ops_cases import module

OPS = torch.ops.point_ops
CPP = backends("cpu")["batch_norm"] == "cpp"
EPS = 1e-5
# C with and without whole vectors, in front of a tail or not; rows below, at and beyond a block,
# and beyond a part of them (256 rows, or n / 128)
SHAPES = [(1, 3), (2, 1), (3, 17), (63, 16), (65, 40), (256, 7), (1000, 33), (40_000, 19)]


def normal(*shape, dtype=torch.float32, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype)


def inputs(n, c, dtype):
    """rows of mean 3, weight, bias, and a gradient of the output."""
    wide = torch.promote_types(dtype, torch.float32)
    return (
        (3 + normal(n, c)).to(dtype),
        1 + 0.2 * normal(c, dtype=wide, seed=1),
        normal(c, dtype=wide, seed=2),
        normal(n, c, dtype=dtype, seed=3),
    )


def exact(rows, weight, bias, flow):
    """Output, mean, variance and the three gradients in float64, by autograd."""
    rows, weight, bias = (t.detach().double().requires_grad_() for t in (rows, weight, bias))
    mean = rows.mean(0)
    variance = (rows - mean).square().mean(0)
    out = (rows - mean) / (variance + EPS).sqrt() * weight + bias
    grads = torch.autograd.grad(out, (rows, weight, bias), flow.double())
    return out.detach(), mean.detach(), variance.detach(), *grads


def close(found, expected, *, size, tolerance):
    """Errors beside the size of what was summed: a gradient can be a sum of 1 and -1."""
    gap = (found.double() - expected).abs().amax()
    assert gap <= tolerance * size, f"{float(gap)} of {float(size)}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("n", "c"), SHAPES)
@pytest.mark.parametrize("kind", ["kernel", "reference"])
def test_values_and_gradients(kind, n, c, dtype):
    rows, weight, bias, flow = inputs(n, c, dtype)
    both = (
        (OPS.batch_norm, OPS.batch_norm_backward)
        if kind == "kernel"
        else (module("norm").reference, module("norm").reference_backward)
    )
    out, mean, variance = both[0](rows, weight, bias, EPS)
    to_rows, to_weight, to_bias = both[1](flow, rows, weight, mean, variance, EPS)
    assert out.dtype == to_rows.dtype == dtype
    assert mean.dtype == variance.dtype == to_weight.dtype == to_bias.dtype == weight.dtype
    expected = exact(rows, weight, bias, flow)
    sums = 1e-12 if dtype == torch.float64 else 1e-6 if CPP and kind == "kernel" else 3e-6
    each = 2**-7 if dtype == torch.bfloat16 else sums
    gain = (expected[2] + EPS).rsqrt().amax()  # as large as 316 for a single row
    close(out, expected[0], size=3 * gain, tolerance=each)
    close(mean, expected[1], size=3, tolerance=sums)
    # deviations are those of rounded rows, of size 3, where two rows are nearly equal
    close(variance, expected[2], size=expected[2].amax() + 1e-7, tolerance=sums)
    close(to_rows, expected[3], size=2 * gain * flow.abs().amax().double(), tolerance=each)
    close(to_weight, expected[4], size=n**0.5 * 3 * gain, tolerance=sums)
    close(to_bias, expected[5], size=n**0.5 * 3, tolerance=sums)


@pytest.mark.parametrize("reference", [False, True])
def test_cancellation_is_bounded_where_the_first_rows_are_far_from_the_others(reference):
    run = module("norm").reference if reference else OPS.batch_norm
    for first in (1, 15, 17, 300):  # below and beyond what the others are shifted by
        rows = 1000 + normal(5000, 5)
        rows[:first] = 0
        rows[first + 1] = 3e4
        _, mean, variance = run(rows, torch.ones(5), torch.zeros(5), EPS)
        _, expected_mean, expected, *_ = exact(rows, torch.ones(5), torch.zeros(5), rows)
        torch.testing.assert_close(mean.double(), expected_mean, rtol=1e-6, atol=0)
        torch.testing.assert_close(variance.double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("reference", [False, True])
def test_a_constant_channel_has_no_variance(reference):
    run = module("norm").reference if reference else OPS.batch_norm
    rows = torch.full((777, 3), 0.1)
    out, mean, variance = run(rows, torch.ones(3), torch.full((3,), 2.0), EPS)
    torch.testing.assert_close(mean, rows[0], rtol=1e-5, atol=0)
    assert variance.max() < 1e-12
    assert not (CPP and not reference and (variance.any() or (out != 2).any()))
    torch.testing.assert_close(out, torch.full_like(rows, 2.0), rtol=0, atol=1e-4)


def test_a_nan_spoils_its_channel_alone():
    rows = normal(100, 18)
    rows[70, 17] = torch.nan
    out, mean, variance = batch_norm(rows, torch.ones(18), torch.zeros(18))
    for found in (out, mean, variance):
        assert found[..., 17].isnan().all()
        assert found[..., :17].isfinite().all()


def test_bfloat16_is_rounded_as_torch_rounds():
    """The map alone: one row has the same statistics in both."""
    values = torch.cat([normal(4000), 1e-39 * normal(50), 1e30 * normal(50)])
    rows = torch.zeros(1, len(values)).bfloat16()
    out = batch_norm(rows, torch.ones(len(values)), values).out
    assert torch.equal(out[0], values.bfloat16())


def test_strided_rows_and_flows():
    rows, weight, bias, flow = inputs(50, 6, torch.float32)
    rows.requires_grad_()
    expected = torch.autograd.grad(batch_norm(rows, weight, bias).out, rows, flow)[0]
    turned = rows.detach().T.contiguous().T.requires_grad_()
    out = batch_norm(turned, weight, bias).out
    found = torch.autograd.grad(out, turned, flow.T.contiguous().T, retain_graph=True)[0]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    (one,) = torch.autograd.grad(out.sum(), turned)  # an expanded gradient
    assert one.abs().max() < 1e-5


@pytest.mark.parametrize(("n", "c"), [(2, 1), (5, 3), (70, 9)])
def test_gradients_in_double(n, c):
    arguments = [t.requires_grad_() for t in inputs(n, c, torch.float64)[:3]]
    assert torch.autograd.gradcheck(lambda *x: batch_norm(*x).out, arguments)
    reference = module("norm").reference
    expected = reference(*(t.detach() for t in arguments), EPS)
    for one, other in zip(batch_norm(*arguments), expected, strict=True):
        torch.testing.assert_close(one.detach(), other)


def test_second_gradients_in_double():
    arguments = [t.requires_grad_() for t in inputs(6, 3, torch.float64)[:3]]
    assert torch.autograd.gradgradcheck(lambda *x: batch_norm(*x).out, arguments)


@pytest.mark.skipif(not CPP, reason="no C++ kernels here: torch's sums depend on the threads")
def test_sums_are_the_same_bits_with_any_number_of_threads():
    rows, weight, bias, flow = inputs(50_000, 24, torch.float32)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 2, 3):
            torch.set_num_threads(threads)
            forward = OPS.batch_norm(rows, weight, bias, EPS)
            backward = OPS.batch_norm_backward(flow, rows, weight, *forward[1:], EPS)
            found.append((*forward, *backward))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda x, w, b: batch_norm(x[0], w, b), "rows"),
        (lambda x, w, b: batch_norm(x[:0], w, b), "rows"),
        (lambda x, w, b: batch_norm(x.half(), w, b), "rows"),
        (lambda x, w, b: batch_norm(x, w[:2], b), "weight"),
        (lambda x, w, b: batch_norm(x, w.double(), b), "weight"),
        (lambda x, w, b: batch_norm(x.double(), w.double(), b), "bias"),
        (lambda x, w, b: batch_norm(x, w, b.to("meta")), "bias"),
        (lambda x, w, b: batch_norm(x, w, None), "bias"),
    ],
)
def test_wrong_arguments_are_named(call, word):
    with pytest.raises(ValueError, match=f"^{word}: expected"):
        call(torch.zeros(4, 3), torch.ones(3), torch.zeros(3))
