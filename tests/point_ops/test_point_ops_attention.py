"""Attention: its kernels of every width against a form in float64, and what must not reach whom."""

import math
import os
import subprocess
import sys

import pytest
import torch
from point_ops import attention, backends
from point_ops_cases import module
from torch.nn import functional

OPS = torch.ops.point_ops
CPP = backends("cpu")["attention"] == "cpp"
DTYPES = [torch.bfloat16, torch.float32, torch.float64]
# of each: the published size; a part of a block of rows and of a vector; odd widths, which have no
# pairs; a single token; more tokens than a block; a head of 96
SHAPES = [
    (2, 64, 6, 64),
    (3, 25, 6, 64),
    (2, 7, 3, 5),
    (1, 1, 1, 1),
    (2, 130, 2, 16),
    (1, 33, 2, 96),
]
ALLOWED = {torch.bfloat16: 1e-2, torch.float32: 4e-6, torch.float64: 1e-13}


def rows(batch, n, heads, size, dtype=torch.float32, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(batch, n, 3 * heads * size, generator=draw, dtype=torch.float64).to(dtype)


def plain(qkv, heads, bias=None):
    """By torch's own attention."""
    parts = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    mask = None if bias is None else bias.unsqueeze(1)
    return (
        functional.scaled_dot_product_attention(*parts, attn_mask=mask).transpose(1, 2).flatten(2)
    )


def hidden(*shape, seed=1):
    """A bias that hides two of five tokens from a token, but never itself."""
    draw = torch.Generator().manual_seed(seed)
    bias = torch.zeros(shape, dtype=torch.float64)
    bias[torch.rand(shape, generator=draw) < 0.4] = -math.inf
    if shape[1] == shape[2]:
        bias.diagonal(dim1=1, dim2=2).zero_()
    else:
        bias[..., 0] = 0
    return bias


def off(found, expected):
    """The largest error, as a share of the largest value."""
    return float((found.double() - expected).abs().max() / expected.abs().max())


def test_two_tokens_by_hand():
    # q = (2, 0), k = (log 3, 0), v = (1, 5): scores of token 0 are 2 log 3 and 0, weights 0.9, 0.1
    qkv = torch.tensor([[[2.0, math.log(3), 1.0], [0.0, 0.0, 5.0]]])
    torch.testing.assert_close(attention(qkv, 1), torch.tensor([[[1.4], [3.0]]]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bias", [None, "every", "shared", "padding"])
def test_output_and_gradient_are_those_of_torch_in_float64(dtype, shape, bias):
    batch, n, heads, size = shape
    kinds = {"every": (batch, n, n), "shared": (1, n, n), "padding": (batch, 1, n)}
    added = None if bias is None else hidden(*kinds[bias])
    qkv = rows(*shape, dtype=dtype).requires_grad_()
    flow = rows(*shape, dtype=dtype, seed=2)[..., : heads * size]
    narrow = added if dtype == torch.float64 or added is None else added.float()
    out = attention(qkv, heads, narrow)
    assert out.dtype == dtype
    (gradient,) = torch.autograd.grad(out, qkv, flow)
    exact = qkv.detach().double().requires_grad_()
    expected = plain(exact, heads, added)
    (slope,) = torch.autograd.grad(expected, exact, flow.double())
    assert off(out.detach(), expected.detach()) < ALLOWED[dtype]
    # one token sees itself alone: only its v matters, and the rest is rounding
    assert off(gradient, slope) < ALLOWED[dtype]


def test_gradients_by_differences():
    bias = hidden(2, 5, 5)
    qkv = rows(2, 5, 2, 3, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: attention(x, 2, bias), qkv)
    assert torch.autograd.gradgradcheck(lambda x: attention(x, 2, bias), qkv)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_torch_form_is_the_same(shape):
    heads, width = shape[2], shape[2] * shape[3]
    reference, bias = module("attention"), hidden(1, shape[1], shape[1])
    qkv = rows(*shape, dtype=torch.float64)
    out, sums = OPS.attention(qkv, heads, bias)
    for found, expected in zip((out, sums), reference.reference(qkv, heads, bias), strict=True):
        torch.testing.assert_close(found, expected)
    arguments = (
        rows(*shape, dtype=torch.float64, seed=3)[..., :width],
        qkv,
        out,
        sums,
        heads,
        bias,
    )
    found = OPS.attention_backward(*arguments)
    torch.testing.assert_close(found, reference.reference_backward(*arguments))


def test_bf16_is_as_exact_as_torchs_own_products_in_bf16():
    qkv = rows(4, 64, 6, 64, torch.bfloat16)
    expected = plain(qkv.double(), 6)
    q, k, v = qkv.unflatten(-1, (3, 6, -1)).permute(2, 0, 3, 1, 4).contiguous().unbind(0)
    products = ((q @ k.transpose(-2, -1)) * 64**-0.5).softmax(-1) @ v
    theirs = products.transpose(1, 2).flatten(2)

    def error(found):
        return float((found.double() - expected).square().mean().sqrt())

    assert error(attention(qkv, 6)) < error(theirs)


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_scores_neither_overflow_nor_vanish(dtype):
    qkv = rows(1, 9, 1, 16, dtype)
    qkv[..., :16] *= 3e3  # scores of thousands: every token sees one other
    out = attention(qkv, 1)
    scores = qkv[0, :, :16].double() @ qkv[0, :, 16:32].double().T
    chosen = qkv[0, scores.argmax(1), 32:]
    torch.testing.assert_close(out[0], chosen)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_nan_reaches_its_own_head_and_cloud_alone(dtype):
    clean = rows(2, 20, 2, 16, dtype)
    broken = clean.clone()
    broken[1, 3, 32 + 5] = math.nan  # the key of token 3, in head 0 of cloud 1
    expected, found = attention(clean, 2), attention(broken, 2)
    assert found[1, :, :16].isnan().all()
    found[1, :, :16] = expected[1, :, :16]
    assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_hidden_tokens_are_not_seen(dtype):
    qkv = rows(1, 21, 2, 16, dtype)
    bias = torch.zeros(1, 1, 21, dtype=torch.promote_types(dtype, torch.float32))
    bias[..., 17:] = -math.inf
    other = qkv.clone()
    other[:, 17:] = 100.0
    found = [attention(x, 2, bias)[:, :17] for x in (qkv, other)]
    assert torch.equal(*found)
    assert off(found[0], plain(qkv[:, :17].double(), 2)) < ALLOWED[dtype]


def test_a_token_that_sees_none_is_nan():
    bias = torch.zeros(1, 3, 3)
    bias[0, 1] = -math.inf
    out = attention(rows(1, 3, 2, 4), 2, bias)
    assert out.isnan().any(-1).tolist() == [[False, True, False]]


def test_third_derivatives_are_refused():
    qkv = rows(1, 3, 1, 2, torch.float64).requires_grad_()
    (first,) = torch.autograd.grad(attention(qkv, 1).square().sum(), qkv, create_graph=True)
    with pytest.raises(NotImplementedError, match="attention: third derivatives"):
        torch.autograd.grad(first.square().sum(), qkv, create_graph=True)


def test_no_tokens_and_no_clouds():
    for shape in ((0, 5, 12), (2, 0, 12)):
        empty = torch.zeros(shape, requires_grad=True)
        out = attention(empty, 2)
        assert out.shape == (*shape[:2], 4)
        assert torch.autograd.grad(out.sum(), empty)[0].shape == shape


def test_rows_that_are_no_block_of_memory():
    qkv = rows(5, 2, 2, 8).transpose(0, 1)
    torch.testing.assert_close(attention(qkv, 2), attention(qkv.contiguous(), 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(2, 3), 1), "qkv: expected shape"),
        ((torch.zeros(2, 3, 9).half(), 1), "bfloat16, float32 or float64, got torch.float16"),
        (
            (torch.zeros(2, 3, 9), 2),
            "qkv: expected 3 times a multiple of 2 heads as last axis, got 9",
        ),
        ((torch.zeros(2, 3, 9), 0), "heads: expected at least 1, got 0"),
        (
            (torch.zeros(2, 3, 9), 1, torch.zeros(2, 3, 4)),
            r"broadcast to \(2, 3, 3\), got \(2, 3, 4\)",
        ),
        ((torch.zeros(2, 3, 9), 1, torch.zeros(3, 3)), "bias: expected shape"),
        ((torch.zeros(2, 3, 9), 1, torch.zeros(2, 3, 3).double()), "bias: expected torch.float32"),
        (
            (torch.zeros(2, 3, 9), 1, torch.zeros(2, 3, 3).requires_grad_()),
            "bias: expected a constant",
        ),
    ],
)
def test_what_is_not_attention_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        attention(*arguments)


WIDTHS = """
import sys, torch, point_ops
from pathlib import Path
found = []
for dtype in (torch.bfloat16, torch.float32, torch.float64):
    for n, heads, size in ((33, 2, 48), (64, 2, 64), (9, 1, 5)):
        draw = torch.Generator().manual_seed(n)
        qkv = torch.randn(2, n, 3 * heads * size, generator=draw, dtype=torch.float64).to(dtype)
        qkv.requires_grad_()
        out = point_ops.attention(qkv, heads)
        found += [out.detach(), torch.autograd.grad(out.square().sum(), qkv)[0]]
torch.save(found, sys.argv[1])
"""


@pytest.mark.skipif(not CPP, reason="no C++ kernels here")
def test_every_vector_width_agrees(tmp_path):
    found = []
    for width in ("128-bit", "avx2", "avx512", ""):
        file = tmp_path / "found.pt"
        environment = {**os.environ, "POINT_OPS_SIMD": width, "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-c", WIDTHS, file], env=environment, check=True)
        found.append(torch.load(file))
    for one, *others in zip(*found, strict=True):
        for other in others:
            assert off(other, one.double()) < ALLOWED[one.dtype]
