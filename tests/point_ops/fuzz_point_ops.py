"""Throws random calls, right and wrong, at every operator; meant for a sanitizer build.

    python tests/point_ops/fuzz_point_ops.py 10000

A call may only return or raise ValueError, RuntimeError (torch's own refusal of a tensor) or
IndexError. docs/point_ops.md tells how to build the kernels under AddressSanitizer.
"""

import collections
import random
import sys

import point_ops
import torch

OPS = torch.ops.point_ops
REFUSALS = (ValueError, RuntimeError, IndexError, NotImplementedError)
SIZES = [0, 1, 2, 3, 5, 15, 16, 17, 31, 33, 63, 64, 65, 100, 129, 257, 400]


def size(draw):
    return draw.choice(SIZES)


def values(draw, *shape):
    dtype = draw.choice([torch.float32] * 6 + [torch.float64] * 2 + [torch.bfloat16, torch.int64])
    out = torch.randn(*shape) * draw.choice([1e-30, 1e-3, 1, 1, 1, 1e18, 1e30])
    if out.numel() and draw.random() < 0.2:
        out.view(-1)[draw.randrange(out.numel())] = draw.choice([torch.nan, torch.inf, -torch.inf])
    if draw.random() < 0.2:
        out = out.round()
    return strided(draw, out.to(dtype))


def strided(draw, out):
    kind = draw.random()
    if kind < 0.15 and out.dim() > 1:
        return out.transpose(-1, -2).contiguous().transpose(-1, -2)
    if kind < 0.25 and out.dim():
        return out.flip(0)
    if kind < 0.35 and out.dim():
        return torch.stack([out, out], -1)[..., 0]
    if kind < 0.4 and out.dim():
        return out[:1].expand(out.shape)
    return out


def indices(draw, *shape, below):
    low, high = (0, max(below, 1)) if draw.random() < 0.7 else (-3, below + 3)
    out = torch.randint(low, high, shape, dtype=draw.choice([torch.int64] * 5 + [torch.int32]))
    if out.numel() and draw.random() < 0.1:
        out.view(-1)[0] = draw.choice([2**31 - 1, -(2**31)])
    return strided(draw, out)


def other(draw, right):
    """Mostly the right size, sometimes another."""
    return right if draw.random() < 0.9 else size(draw)


def one_call(draw):
    """Returns a name and a function to call."""
    batch = draw.choice([0, 1, 1, 2, 3])
    n, m, c, k = size(draw), size(draw), draw.choice([1, 3, 16, 17, 40]), size(draw)
    a = values(draw, batch, n, other(draw, 3))
    b = values(draw, other(draw, batch), m, other(draw, 3))
    f = values(draw, batch, n, c)
    idx = indices(draw, other(draw, batch), m, min(k, 20), below=n)
    weight = values(draw, batch, m, min(k, 20))
    radius = draw.choice([0.0, 0.3, 1.0, 1e10, float("nan"), -1.0])
    lengths = indices(draw, batch, below=n) if draw.random() < 0.5 else None
    start = draw.choice([0, 0, n - 1, n, -1, "random"])
    eps = draw.choice([1e-3, 1e-2, 1.0, 0.0])
    raw_k = draw.choice([k, -1, 0, 2**40])
    long = indices(draw, batch, m, below=n)
    flat, scale = values(draw, n * draw.choice([1, 5]), c), values(draw, other(draw, c))
    calls = {
        "farthest_point_sample": lambda: point_ops.farthest_point_sample(
            a, other(draw, max(1, n // 2)), start=start, lengths=lengths
        ),
        "knn": lambda: point_ops.knn(b, a, k),
        "ball_query": lambda: point_ops.ball_query(b, a, radius, k),
        "gather": lambda: point_ops.gather(f, long),
        "group": lambda: point_ops.group(f, idx),
        "three_interpolate": lambda: point_ops.three_interpolate(f, idx, weight),
        "interpolate": lambda: point_ops.interpolate(b, a, f),
        "chamfer": lambda: point_ops.chamfer(a, b),
        "chamfer_l1": lambda: point_ops.chamfer_l1(a, b, "patch"),
        "assignment": lambda: point_ops.assignment(a, b[:, :n], eps=eps),
        "soft_match": lambda: point_ops.soft_match(a, b),
        "backward": lambda: backward(f, long, a, b, idx, weight),
        # The operators themselves, past the checks in Python.
        "ops.fps": lambda: OPS.fps(a, long[:, 0], lengths, raw_k % 1000 if n else raw_k),
        "ops.knn": lambda: OPS.knn(b, a, raw_k),
        "ops.ball_query": lambda: OPS.ball_query(b, a, radius, raw_k % 5000),
        "ops.gather": lambda: OPS.gather(f, long),
        "ops.gather_backward": lambda: OPS.gather_backward(b, long, n),
        "ops.interpolate": lambda: OPS.interpolate(f, idx, weight),
        "ops.interpolate_backward": lambda: OPS.interpolate_backward(
            values(draw, batch, m, other(draw, c)), f, idx, weight, draw.random() < 0.5
        ),
        "ops.chamfer": lambda: OPS.chamfer(a, b),
        "ops.chamfer_backward": lambda: OPS.chamfer_backward(
            a[..., 0], b[..., 0], a, b, indices(draw, batch, n, below=m), long
        ),
        "batch_norm": lambda: normed(flat, scale),
        "ops.batch_norm": lambda: OPS.batch_norm(flat, scale, values(draw, other(draw, c)), eps),
        "ops.batch_norm_backward": lambda: OPS.batch_norm_backward(
            values(draw, n, other(draw, c)), flat, scale, scale, scale.abs(), eps
        ),
        "norm_relu": lambda: normed(
            flat, scale, group=other(draw, 3) or 1, kept=indices(draw, other(draw, 3), below=n)
        ),
        "ops.norm_relu": lambda: OPS.norm_relu(
            flat, scale, scale, eps, a[0], long[0], other(draw, 4), draw.random() < 0.5
        ),
        "ops.norm_relu_backward": lambda: OPS.norm_relu_backward(
            values(draw, n, other(draw, c)), flat, flat, scale, scale, scale, eps, a[0], long[0], 2
        ),
        "ops.norm_relu_fixed": lambda: OPS.norm_relu_fixed(
            flat, scale, scale, scale, scale, eps, a[0], other(draw, 4)
        ),
        "attention": lambda: attended(draw),
        "attention refused": lambda: point_ops.attention(f, other(draw, 1), f[..., :n]),
        "ops.attention": lambda: OPS.attention(f, other(draw, 1), values(draw, 1, n, n)),
        "ops.attention_backward": lambda: OPS.attention_backward(
            values(draw, batch, n, other(draw, c // 3)),
            f,
            values(draw, batch, n, c // 3),
            values(draw, batch, 1, n, 2),
            other(draw, 1),
            None,
        ),
        "group_max": lambda: point_ops.group_max(f),
        "ops.group_max_backward": lambda: OPS.group_max_backward(
            a[0], long[0].short(), other(draw, 5)
        ),
        "ops.auction": lambda: OPS.auction(a, b, eps),
    }
    name = draw.choice(sorted(calls))
    return name, calls[name]


def backward(f, long, a, b, idx, weight):
    f, a = f.detach().requires_grad_(), a.detach().requires_grad_()
    total = point_ops.gather(f, long).sum() + point_ops.three_interpolate(f, idx, weight).sum()
    (total + point_ops.chamfer_l2(a, b)).backward()


def attended(draw):
    """With shapes that fit, in every form: pairs need widths of whole vectors."""
    batch, n, heads = draw.choice([0, 1, 2]), draw.randrange(71), draw.choice([1, 2, 3])
    rows = values(draw, batch, n, 3 * heads * draw.choice([1, 5, 16, 24, 32, 48, 64]))
    rows = rows.to(draw.choice([torch.bfloat16, torch.float32, torch.float64])).detach()
    bias = torch.zeros(draw.choice([1, batch]), draw.choice([1, n]), n)
    bias[bias.new_empty(bias.shape).bernoulli_(0.2).bool()] = -torch.inf
    bias = bias.to(torch.promote_types(rows.dtype, torch.float32))
    rows.requires_grad_()
    point_ops.attention(rows, heads, draw.choice([None, bias])).sum().backward()


def normed(rows, weight, **how):
    rows = rows.detach().requires_grad_()
    norm = point_ops.norm_relu if how else point_ops.batch_norm
    norm(rows, weight, weight, **how).out.sum().backward()


def main(count, seed):
    draw = random.Random(seed)
    torch.manual_seed(seed)
    tally = collections.Counter()
    for _ in range(count):
        name, call = one_call(draw)
        try:
            call()
            tally[name, "returned"] += 1
        except REFUSALS as error:
            tally[name, type(error).__name__] += 1
    for (name, outcome), times in sorted(tally.items()):
        print(f"{name:28} {outcome:22} {times}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
