"""The operators of ``point_ops`` that models use, in ONNX.

They choose the same points as :mod:`point_ops`: distances are sums of squared differences in the order
x, y, z, and of equal distances the lower index is taken, as ONNX says of ArgMax and TopK. Coordinates
must be finite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import point_ops
import torch
from onnxscript import FLOAT, INT64, script
from onnxscript import opset18 as op

assert point_ops.__name__, "importing it registers the operators"


@script()  # type: ignore[untyped-decorator]
def _farthest(points: FLOAT, start: INT64, n_samples: int) -> INT64:
    x, y, z = op.Split(op.Transpose(points, perm=[2, 0, 1]), axis=0, num_outputs=3)
    first = op.Constant(value_ints=[0])
    x = op.Squeeze(x, first)
    y = op.Squeeze(y, first)
    z = op.Squeeze(z, first)
    last = op.Unsqueeze(start, op.Constant(value_ints=[1]))
    picked = op.Identity(last)
    nearest = op.Expand(op.Constant(value_float=float("inf")), op.Shape(x))
    steps = op.Sub(op.Constant(value_int=n_samples), op.Constant(value_int=1))
    for _step in range(steps):
        dx = x - op.GatherElements(x, last, axis=1)
        dy = y - op.GatherElements(y, last, axis=1)
        dz = z - op.GatherElements(z, last, axis=1)
        nearest = op.Min(nearest, dx * dx + dy * dy + dz * dz)
        last = op.ArgMax(nearest, axis=1, keepdims=1)
        picked = op.Concat(picked, last, axis=1)
    return picked


@script()  # type: ignore[untyped-decorator]
def _nearest(queries: FLOAT, points: FLOAT, k: int) -> tuple[FLOAT, INT64]:
    qx, qy, qz = op.Split(queries, axis=2, num_outputs=3)
    px, py, pz = op.Split(op.Transpose(points, perm=[0, 2, 1]), axis=1, num_outputs=3)
    dx = qx - px
    dy = qy - py
    dz = qz - pz
    many = op.Unsqueeze(op.Constant(value_int=k), op.Constant(value_ints=[0]))
    found, index = op.TopK(dx * dx + dy * dy + dz * dz, many, axis=-1, largest=0, sorted=1)
    return found, index


@script()  # type: ignore[untyped-decorator]
def _rows(points: FLOAT, index: INT64) -> FLOAT:
    return op.GatherND(points, op.Unsqueeze(index, op.Constant(value_ints=[2])), batch_dims=1)


@script()  # type: ignore[untyped-decorator]
def _weighted(features: FLOAT, index: INT64, weight: FLOAT) -> FLOAT:
    # neighbour by neighbour: nothing of size (B, M, K, C)
    first = op.Gather(index, op.Constant(value_ints=[0]), axis=2)
    total = op.GatherND(features, first, batch_dims=1) * op.Gather(
        weight, op.Constant(value_ints=[0]), axis=2
    )
    one = op.Constant(value_int=1)
    others = op.Sub(op.Squeeze(op.Shape(index, start=2), op.Constant(value_ints=[0])), one)
    for step in range(others):
        column = op.Unsqueeze(op.Add(step, one), op.Constant(value_ints=[0]))
        at = op.Gather(index, column, axis=2)
        total = total + op.GatherND(features, at, batch_dims=1) * op.Gather(weight, column, axis=2)
    return total


def _fps(points: Any, start: Any, lengths: Any, n_samples: int) -> Any:
    if lengths is not None:
        raise NotImplementedError("clouds of a batch have the same number of points in ONNX")
    return _farthest(points, start, n_samples=n_samples)


def _knn(queries: Any, points: Any, k: int) -> Any:
    return _nearest(queries, points, k=k)


def _gather(points: Any, idx: Any) -> Any:
    return _rows(points, idx)


def _interpolate(features: Any, idx: Any, weight: Any) -> Any:
    return _weighted(features, idx, weight)


TRANSLATIONS: Final[dict[Callable[..., Any], Callable[..., Any]]] = {
    torch.ops.point_ops.fps.default: _fps,
    torch.ops.point_ops.knn.default: _knn,
    torch.ops.point_ops.gather.default: _gather,
    torch.ops.point_ops.interpolate.default: _interpolate,
}
"""For ``torch.onnx.export``: operator of torch to what it is in ONNX."""
