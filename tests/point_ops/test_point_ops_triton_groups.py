"""The GPU's kernels over groups of rows: executed by Triton's interpreter, by the GPU where there
is one, and compiled for GPUs that are not here."""

import point_ops
import pytest
import torch
from point_ops_cases import interpreted

pytest.importorskip("triton")
OPS = torch.ops.point_ops


@pytest.mark.slow
def test_kernels_match_the_references_under_the_interpreter():
    run = interpreted("triton_groups_run.py")
    assert run.stdout == "every kernel ran\n", run.stderr


@pytest.mark.skipif("not torch.cuda.is_available()", reason="no GPU")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_gpu_is_near_the_cpu_and_gives_the_same_bits_again(dtype):
    draw = torch.Generator().manual_seed(0)
    rows = (3 + torch.randn(5000 * 32, 136, generator=draw)).to(dtype)
    shared = torch.randn(5000, 136, generator=draw).to(dtype)
    weight, bias = 1 + 0.2 * torch.randn(2, 136, generator=draw)
    kept = torch.randperm(5000, generator=draw)[:2000]
    flow = torch.randn(2000 * 32, 136, generator=draw).to(dtype)

    def run(device):
        here = [t.to(device) for t in (rows, weight, bias, shared, kept, flow)]
        x, w, b, s, k, g = here
        out, mean, variance = OPS.norm_relu(x, w, b, 1e-5, s, k, 32, True)
        cut = cpu_out.to(device)  # where rounding decided between 0 and more
        back = OPS.norm_relu_backward(g, cut, x, w, mean, variance, 1e-5, s, k, 32)
        largest, index = OPS.group_max(x.view(-1, 32, 136))
        placed = OPS.group_max_backward(largest, index, 32)
        return [t.cpu() for t in (out, mean, variance, *back, largest, index, placed)]

    cpu_out = OPS.norm_relu(rows, weight, bias, 1e-5, shared, kept, 32, True)[0]
    expected, found, again = run("cpu"), run("cuda"), run("cuda")
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))
    near = {torch.bfloat16: 2.0**-7, torch.float32: 1e-5}
    for one, other in zip(found[:-3], expected[:-3], strict=True):
        size = float(other.abs().max())
        torch.testing.assert_close(one, other, rtol=near[one.dtype], atol=1e-5 * size)
    assert all(torch.equal(a, b) for a, b in zip(found[-3:], expected[-3:], strict=True))


# groups, members, channels: many groups, one long group, and more values than 32 bits count
LARGE = [(5_000_000, 1, 3), (1, 30_000, 3), (2_000_000, 32, 512), (70_000, 7, 130)]


@pytest.mark.parametrize(("groups", "size", "c"), LARGE)
def test_launches_stay_within_the_grids_that_cuda_allows(groups, size, c, monkeypatch):
    from point_ops import _triton_groups, _triton_norm, _triton_norm_backward

    asked = []

    class Kernel:
        def __init__(self, name):
            self.name = name

        def __getitem__(self, grid):
            asked.append((self.name, grid))
            return lambda *arguments, **options: None

    modules = (_triton_groups, _triton_norm, _triton_norm_backward)
    for name in SIGNATURES:
        [module] = (m for m in modules if getattr(m, name, None) is not None)
        monkeypatch.setattr(module, name, Kernel(name))
    rows, half = torch.empty(groups * size, c, device="meta"), torch.empty(groups, c, device="meta")
    channel, kept = half[0], torch.empty(groups, dtype=torch.int64, device="meta")
    common = 1e-5, half, kept, size
    _triton_norm.norm_relu(rows, channel, channel, *common, True)
    _triton_norm.norm_relu_fixed(rows, *[channel] * 4, 1e-5, half, size)
    _triton_norm_backward.norm_relu_backward(rows, rows, rows, *[channel] * 3, *common)
    _triton_groups.group_max(rows.view(groups, size, c))
    _triton_groups.group_max_backward(half, half.short(), size)
    assert [name for name, _ in asked] == [
        *("_moments", "_settle", "_normalise", "_normalise"),
        *("_products", "_settle_backward", "_backward", "_largest", "_place"),
    ]
    for _, grid in asked:
        assert len(grid) == 1
        assert 0 < grid[0] < 2**31


VALUES = ("rows", "shared", "grad", "out", "to_rows", "to_shared", "values")
SIZES = ("groups", "outputs", "c", "span", "parts")
FLAGS = {"SHARED": True, "KEPT": True, "RELU": True}
SIGNATURES = {  # constants of each kernel, beside those of all
    "_moments": {"SHARED": True, "FIRST": 8, "STEP": 32},
    "_settle": {"EPS": 1e-5, "BLOCK": 256, "COLS": 16},
    "_normalise": {"EPS": 1e-5, "FIXED": False, **FLAGS},
    "_products": {"STEP": 32, **FLAGS},
    "_settle_backward": {"EPS": 1e-5, "BLOCK": 256, "COLS": 16},
    "_backward": FLAGS,
    "_largest": {},
    "_place": {},
}


def built(name, dtype, capability):
    import triton
    from point_ops import _triton_groups, _triton_norm, _triton_norm_backward
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    modules = (_triton_groups, _triton_norm, _triton_norm_backward)
    [kernel] = (getattr(m, name) for m in modules if hasattr(m, name))
    constants = {"K": 32, "LANES": 8, "COLS": 128} | SIGNATURES[name]
    constants = {n: value for n, value in constants.items() if n in kernel.arg_names}
    wide = "fp64" if dtype == "fp64" else "fp32"
    bits = {"bf16": "i16", "fp32": "i32", "fp64": "i64"}[dtype]
    types = dict.fromkeys(kernel.arg_names, f"*{wide}") | dict.fromkeys(SIZES, "i32")
    types |= dict.fromkeys(VALUES, f"*{bits if name == '_place' else dtype}")
    types |= {"kept": "*i64", "places": "*i64", "index": "*i16", "partial": "*fp64"}
    if name == "_settle_backward":
        types["rows"] = "i32"  # their number
    types = {n: types[n] for n in kernel.arg_names} | dict.fromkeys(constants, "constexpr")
    # memory of torch, and 512 channels, are so aligned
    aligned = [i for i, n in enumerate(kernel.arg_names) if types[n][0] == "*" or n == "c"]
    source = ASTSource(
        fn=kernel,
        signature=types,
        constexprs=constants,
        attrs={(i,): [["tt.divisibility", 16]] for i in aligned},
    )
    return triton.compile(source, target=GPUTarget("cuda", capability, 32))


@pytest.mark.parametrize("capability", [80, pytest.param(90, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", ["bf16", "fp32", pytest.param("fp64", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SIGNATURES)
def test_kernels_compile_for_a_gpu_that_is_not_here(name, dtype, capability):
    found = built(name, dtype, capability).asm
    assert found["cubin"]
    assert "atomic" not in found["ttir"]  # sums have one order
    if "settle" not in name:
        # 16 bytes a thread, and no address counted in 32 bits
        assert f"ld.global.{'v2.b64' if dtype == 'fp64' else 'v4.b32'}" in found["ptx"]
        lines = [line for line in found["ttir"].splitlines() if "tt.addptr" in line]
        tiles = [line for line in lines if "<8x128x!tt.ptr" in line]
        assert tiles
        assert all("tensor<8x128xi64>" in line for line in tiles)


def test_functions_give_the_dispatcher_what_it_asks_for(monkeypatch):
    """The kernels' Python side, called as an operator on a GPU calls it."""
    from point_ops import _registry

    seen = []
    monkeypatch.setattr(
        "point_ops._triton_groups.group_max", lambda *arguments: seen.append(arguments)
    )
    _registry.triton("_triton_groups", "group_max")("rows")
    assert seen == [("rows",)]
    names = ("norm_relu", "norm_relu_backward", "norm_relu_fixed", "group_max")
    assert {point_ops.backends("cuda")[name] for name in names} == {"triton"}
