"""Executes the Triton kernels on the CPU; run by test_point_ops_triton.py in a process of its own,
since TRITON_INTERPRET must be set before triton is imported."""

import torch
from point_ops import _triton_points as kernels
from point_ops_cases import cloud, module


def same(got, expected):
    for one, other in zip(got, expected, strict=True):
        assert torch.equal(one, other), (one, other)


for kind in ("normal", "grid", "broken"):
    points, queries = cloud(2, 70, kind), cloud(2, 5, seed=1)
    start = torch.tensor([0, 3])
    lengths = torch.tensor([9, 70])
    for ends in (None, lengths):
        same(
            [kernels.fps(points, start, ends, 8)], [module("fps").reference(points, start, ends, 8)]
        )
    same(kernels.knn(queries, points, 6), module("knn").reference(queries, points, 6))
    for radius, k in ((0.9, 4), (0.9, 80), (1e-6, 2)):
        same(
            [kernels.ball_query(queries, points, radius, k)],
            [module("ball_query").reference(queries, points, radius, k)],
        )
    same(kernels.chamfer(points, queries), module("chamfer").reference(points, queries))
one = cloud(1, 1)
same(kernels.chamfer(one, cloud(1, 33)), module("chamfer").reference(one, cloud(1, 33)))
same([kernels.fps(one, torch.zeros(1, dtype=torch.int64), None, 1)], [torch.zeros(1, 1).long()])
plane = torch.rand(1, 40, 2)
same(kernels.knn(plane, plane, 3), module("knn").reference(plane, plane, 3))
double = cloud(1, 20, dtype=torch.float64)
same(kernels.chamfer(double, double), module("chamfer").reference(double, double))
assert kernels.knn(torch.empty(0, 3, 3), torch.empty(0, 5, 3), 2)[1].shape == (0, 3, 2)
print("every kernel ran")
