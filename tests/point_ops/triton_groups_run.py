"""Executes the Triton kernels over groups on the CPU; run by test_point_ops_triton_groups.py in a
process of its own, since TRITON_INTERPRET must be set before triton is imported."""

import torch
from point_ops import _triton_groups as groups
from point_ops import _triton_norm as norm
from point_ops import _triton_norm_backward as backward
from point_ops_cases import module

EPS = 1e-5
REFERENCE, MAXIMA, PLAIN = module("norm_relu"), module("group_max"), module("norm")
# The interpreter cuts bfloat16 off where a GPU rounds it: one unit in the last place.
NEAR = {torch.bfloat16: 2.0**-7, torch.float32: 4e-6, torch.float64: 1e-13}


def normal(*shape, dtype=torch.float32, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype)


def near(got, expected, least=0.0):
    """Each by its own dtype, beside its largest value or `least`."""
    for one, other in zip(got, expected, strict=True):
        each = NEAR[one.dtype]
        size = max(least, float(other.nan_to_num().abs().max())) if other.numel() else 0.0
        torch.testing.assert_close(one, other, rtol=each, atol=each * size, equal_nan=True)


def inputs(count, size, c, dtype, shares, keeps):
    wide = torch.promote_types(dtype, torch.float32)
    return (
        (3 + normal(count * size, c)).to(dtype),
        1 + 0.2 * normal(c, dtype=wide, seed=1),
        normal(c, dtype=wide, seed=2),
        normal(count, c, dtype=dtype, seed=3) if shares else None,
        None if keeps is None else torch.tensor(list(keeps), dtype=torch.int64),
    )


def compare(rows, weight, bias, shared, kept, size, relu=True):
    """Forward and backward against the reference; the results, to compare more."""
    got = norm.norm_relu(rows, weight, bias, EPS, shared, kept, size, relu)
    expected = REFERENCE.reference(rows, weight, bias, EPS, shared, kept, size, relu)
    out, mean, variance = expected
    terms = 3 * float((weight * (variance + EPS).rsqrt()).abs().max())  # of sums that may cancel
    near(got[:1], expected[:1], terms)
    near(got[1:], expected[1:])
    flow = normal(*out.shape, dtype=rows.dtype, seed=4)
    given = flow, out if relu else None, rows, weight, mean, variance, EPS, shared, kept, size
    found = backward.norm_relu_backward(*given)
    near(found, REFERENCE.reference_backward(*given), terms)
    again = backward.norm_relu_backward(*given)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))
    return got, found


CASES = [  # groups, members, channels, shared, kept
    (9, 1, 3, False, None),
    (1, 1, 20, True, None),  # one row
    (5, 8, 17, True, None),
    (6, 7, 40, True, [5, 0, 3]),
    (10, 32, 64, True, [1]),
    (30, 5, 33, False, range(0, 30, 2)),
    (20, 16, 16, True, []),  # none is kept
    (2, 70, 130, True, [1]),  # more members than are summed in float32; two blocks of columns
]
for dtype in NEAR:
    for count, size, c, shares, keeps in CASES if dtype != torch.float64 else CASES[1:4]:
        case = inputs(count, size, c, dtype, shares, keeps)
        compare(*case, size)
        rows, weight, bias, shared, _ = case
        statistics = 3 + bias, weight.square()
        given = rows, weight, bias, *statistics, EPS, shared, size
        near([norm.norm_relu_fixed(*given)], [REFERENCE.reference_fixed(*given)])
    rows, weight, bias, _, _ = inputs(50, 1, 24, dtype, False, None)
    plain = norm.batch_norm(rows, weight, bias, EPS)
    near(plain, PLAIN.reference(rows, weight, bias, EPS))
    flow = normal(50, 24, dtype=dtype, seed=4)
    given = flow, rows, weight, *plain[1:], EPS
    near(backward.batch_norm_backward(*given), PLAIN.reference_backward(*given))

# Several parts, each of several tiles, and a last one that is short: sums are as exact as float64.
norm.PARTS = 3
case = inputs(150, 2, 128, torch.float32, True, [*range(7, 140)])
(_, mean, variance), _ = compare(*case, 2)
whole = case[0].double() + case[3].double().repeat_interleave(2, 0)
exact, middle = torch.var_mean(whole, 0, correction=0)
torch.testing.assert_close(mean.double(), middle, rtol=2e-7, atol=0)
torch.testing.assert_close(variance.double(), exact, rtol=2e-7, atol=0)
# Rows whose mean is far from 0, with the first of them far from the others.
case[0][:, :64] += 1000
case[0][:4] -= 500
whole = case[0].double()
_, mean, variance = norm.norm_relu(case[0], *case[1:3], EPS, None, None, 2, True)
exact, middle = torch.var_mean(whole, 0, correction=0)
torch.testing.assert_close(mean.double(), middle, rtol=2e-7, atol=2e-6)
torch.testing.assert_close(variance.double(), exact, rtol=2e-6, atol=0)
norm.PARTS = 512

# What is not finite: the channel is lost, and others are not; where nothing depends on the channel
# its gradients are 0, as in the reference.
for bad in (torch.nan, torch.inf):
    rows, weight, bias, shared, kept = inputs(6, 7, 40, torch.float32, True, [5, 0, 3])
    rows[11, 7] = rows[40, 20] = bad
    given = rows, weight, bias, EPS, shared, kept, 7, True
    out, mean, variance = norm.norm_relu(*given)
    expected = REFERENCE.reference(*given)
    near([out, variance], [expected[0], expected[2]])
    lost = variance.isnan()
    assert lost.nonzero().flatten().tolist() == [7, 20]
    near([mean[~lost]], [expected[1][~lost]])
    assert not mean[lost].isfinite().any()
    flow = normal(*out.shape, seed=4)
    flow[:, 7] = 0
    given = flow, *expected[:1], rows, weight, *expected[1:], EPS, shared, kept, 7
    found = backward.norm_relu_backward(*given)
    near(found, REFERENCE.reference_backward(*given))
    for gradient in found:
        assert not gradient[..., 7].any()
    assert found[0][:, 20].isnan().all()
flow = normal(21, 40, seed=4)
flow[2, 3] = torch.nan
rows, weight, bias, shared, kept = inputs(6, 7, 40, torch.float32, True, [5, 0, 3])
out, mean, variance = REFERENCE.reference(rows, weight, bias, EPS, shared, kept, 7, False)
given = flow, None, rows, weight, mean, variance, EPS, shared, kept, 7
near(backward.norm_relu_backward(*given), REFERENCE.reference_backward(*given))

# A group that does not exist reads and writes nothing elsewhere, and shows.
rows, weight, bias, shared, _ = inputs(6, 7, 40, torch.float32, True, None)
out = norm.norm_relu(rows, weight, bias, EPS, shared, torch.tensor([1, 6, -1]), 7, True)[0]
assert out[:7].isfinite().all()
assert out[7:].isnan().all()

# Strides of other orders.
rows, weight, bias, shared, kept = inputs(6, 7, 40, torch.float32, True, [5, 0, 3])
compare(rows.T.contiguous().T, weight, bias, shared.T.contiguous().T, kept, 7)

SHAPES = [(3, 1, 1), (5, 7, 33), (4, 32, 200), (2, 300, 129), (70, 3, 16), (0, 4, 5), (3, 4, 0)]
for dtype in NEAR:
    for shape in SHAPES:
        rows = (3 * normal(*shape)).round().to(dtype)  # many are equal
        if shape[0] > 2 and shape[1] > 2 and shape[2]:
            rows[0, 1, ::2] = rows[0, 2] = torch.nan
            rows[1, 2], rows[2, :, 0] = torch.inf, -torch.inf
        (values, index), expected = groups.group_max(rows), MAXIMA.reference(rows)
        assert torch.equal(index, expected[1])
        assert torch.equal(values.nan_to_num(), expected[0].nan_to_num())
        assert torch.equal(values.isnan(), expected[0].isnan())
        flow = normal(shape[0], shape[2], dtype=dtype, seed=1)
        placed = groups.group_max_backward(flow, index, shape[1])
        assert torch.equal(placed, MAXIMA.reference_backward(flow, index, shape[1]))
strided = normal(4, 9, 6).transpose(1, 2)
assert torch.equal(groups.group_max(strided)[0], strided.max(1).values)
print("every kernel ran")
