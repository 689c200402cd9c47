"""The GPU's kernels: executed by Triton's interpreter here, by the GPU where there is one."""

import point_ops
import pytest
import torch
from point_ops_cases import cloud, interpreted, module

pytest.importorskip("triton")


def test_kernels_match_the_references_under_the_interpreter():
    run = interpreted("triton_run.py")
    assert run.stdout == "every kernel ran\n", run.stderr


@pytest.mark.skipif("not torch.cuda.is_available()", reason="no GPU")
def test_gpu_equals_cpu():
    points, queries = cloud(3, 500, "grid"), cloud(3, 60, seed=1)
    on_gpu = points.cuda(), queries.cuda()
    idx = point_ops.farthest_point_sample(on_gpu[0], 50).cpu()
    assert torch.equal(idx, point_ops.farthest_point_sample(points, 50))
    for got, expected in zip(
        point_ops.knn(on_gpu[1], on_gpu[0], 12), point_ops.knn(queries, points, 12), strict=True
    ):
        assert torch.equal(got.cpu(), expected)
    for got, expected in zip(
        point_ops.chamfer(*on_gpu), module("chamfer").reference(points, queries), strict=True
    ):
        assert torch.equal(got.cpu(), expected)
    got = point_ops.ball_query(on_gpu[1], on_gpu[0], 0.8, 20).cpu()
    assert torch.equal(got, point_ops.ball_query(queries, points, 0.8, 20))
    assert set(point_ops.backends().values()) >= {"triton"}


@pytest.mark.parametrize(
    "call",
    [
        lambda kernels, clouds: kernels.fps(clouds, torch.zeros(len(clouds)).long(), None, 1),
        lambda kernels, clouds: kernels.knn(clouds, clouds, 1),
        lambda kernels, clouds: kernels.ball_query(clouds, clouds, 1.0, 1),
        lambda kernels, clouds: kernels.chamfer(clouds, clouds),
    ],
    ids=["fps", "knn", "ball_query", "chamfer"],
)
@pytest.mark.parametrize("shape", [(70_000, 1, 3), (1, 5_000_000, 3), (70_000, 100, 3)])
def test_launches_stay_within_the_grids_that_cuda_allows(call, shape, monkeypatch):
    from point_ops import _triton_points

    asked = []

    class Kernel:
        def __getitem__(self, grid):
            asked.append(grid)
            return lambda *arguments, **options: None

    for name in SIGNATURES:
        monkeypatch.setattr(_triton_points, name, Kernel())
    call(_triton_points, torch.zeros(shape))
    assert asked
    for grid in asked:
        first, second, third = (*grid, 1, 1)[:3]
        assert first < 2**31
        assert second <= 65_535
        assert third <= 65_535


SIGNATURES = {
    "_fps": (
        {
            "points": "*fp32",
            "start": "*i64",
            "lengths": "*i64",
            "out": "*i64",
            "n": "i32",
            "s": "i32",
        },
        {"HAS_LENGTHS": True, "BLOCK": 1024},
    ),
    "_knn": (
        {"queries": "*fp32", "points": "*fp32", "sqdist": "*fp32", "idx": "*i64"}
        | dict.fromkeys("mndk", "i32"),
        {"BLOCK": 1024},
    ),
    "_ball": (
        {"queries": "*fp32", "points": "*fp32", "out": "*i64"}
        | dict.fromkeys("mnk", "i32")
        | {"limit": "*fp32"},
        {"TILE": 1024, "FILL": 64},
    ),
    "_nearest": (
        {"a": "*fp32", "b": "*fp32", "sqdist": "*fp32", "idx": "*i64", "n": "i32", "m": "i32"},
        {"ROWS": 64, "TILE": 64},
    ),
}


@pytest.mark.parametrize("capability", [80, pytest.param(90, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_kernels_compile_for_a_gpu_that_is_not_here(name, capability):
    import triton
    from point_ops import _triton_points
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    arguments, constants = SIGNATURES[name]
    source = ASTSource(
        fn=getattr(_triton_points, name),
        signature=arguments | dict.fromkeys(constants, "constexpr"),
        constexprs=constants,
    )
    built = triton.compile(
        source, target=GPUTarget("cuda", capability, 32), options={"enable_fp_fusion": False}
    )
    assert built.asm["cubin"]
    assert (
        "fma.rn.f32" not in built.asm["ptx"]
    )  # fused sums would break ties otherwise than the CPU
