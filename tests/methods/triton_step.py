"""Trains SA3DF for a step on the CPU by the GPU's kernels; run by test_triton_step.py in a process
of its own, since TRITON_INTERPRET must be set before triton is imported.

Prints how often each kernel was called: forward, and in the backward pass.
"""

import collections
import importlib
import json
import sys

import point_ops
import torch
from point_ops import _triton_groups, _triton_norm, _triton_norm_backward
from tiny import PLAIN, SCALES, build, clouds, experiment, progress

MODEL = {"point-mae": PLAIN, "point-m2ae": SCALES}[sys.argv[1]]
KERNELS = {
    **{
        name: importlib.import_module(f"point_ops.{name}")._cuda
        for name in ("fps", "knn", "ball_query", "chamfer")
    },
    "batch_norm": _triton_norm.batch_norm,
    "batch_norm_backward": _triton_norm_backward.batch_norm_backward,
    "norm_relu": _triton_norm.norm_relu,
    "norm_relu_fixed": _triton_norm.norm_relu_fixed,
    "norm_relu_backward": _triton_norm_backward.norm_relu_backward,
    "group_max": _triton_groups.group_max,
    "group_max_backward": _triton_groups.group_max_backward,
}
on_gpu = point_ops.backends("cuda").items()
assert set(KERNELS) == {name for name, backend in on_gpu if backend == "triton"}
calls = collections.Counter()


def counted(name):
    def call(*args):
        calls[name] += 1
        return KERNELS[name](*args)

    return call


def step(precision):
    """Loss, gradients and running statistics of a step."""
    method = build(experiment(MODEL | {"embed_width": 8}, precision=precision))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        loss = method.training_step(clouds(2), progress())["loss"]
    loss.backward()
    method.after_step(progress())
    gradients = [p.grad for p in method.parameters() if p.grad is not None]
    statistics = [value for name, value in method.named_buffers() if "running" in name]
    return loss.detach(), torch.cat([g.flatten() for g in gradients]), torch.cat(statistics)


library = torch.library.Library("point_ops", "IMPL")
# Of loss and statistics, and of gradients. In bfloat16 the interpreter cuts off what a GPU rounds,
# and maxima fall on other members: gradients that had nothing in common would be 1.4 apart.
PRECISIONS = {"fp32": (1e-5, 1e-4), "bf16": (3e-2, 0.6)}
expected = {precision: step(precision) for precision in PRECISIONS}
for name in KERNELS:
    library.impl(name, counted(name), "CPU", allow_override=True)
for precision, (near, of_gradients) in PRECISIONS.items():
    calls.clear()
    (loss, gradients, statistics), known = step(precision), expected[precision]
    torch.testing.assert_close(loss, known[0], rtol=near, atol=0)
    gap = (gradients - known[1]).norm() / known[1].norm()
    assert gap < of_gradients, (precision, gap)
    torch.testing.assert_close(statistics, known[2], rtol=near, atol=near)
print(json.dumps(calls))
