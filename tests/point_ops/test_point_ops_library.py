"""What torch.library promises for every operator, and the backends."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import point_ops
import pytest
import torch
from point_ops_cases import cloud
from torch import nn

OPS = torch.ops.point_ops


def samples():
    """Operator, or operator and case -> arguments."""
    x, y = cloud(2, 12), cloud(2, 7, seed=3)
    xg, yg = x.clone().requires_grad_(), y.clone().requires_grad_()
    idx = torch.randint(0, 12, (2, 5, 3), generator=torch.Generator().manual_seed(0))
    weight = torch.rand(2, 5, 3).requires_grad_()
    features = torch.rand(2, 12, 4).requires_grad_()
    start = torch.zeros(2, dtype=torch.int64)
    near = OPS.chamfer(x, y)
    grown = [t.clone().requires_grad_() for t in near[:2]]
    row_grad = torch.rand(2, 5, 4).requires_grad_()
    rows, row_flow = torch.rand(9, 4).requires_grad_(), torch.rand(9, 4).requires_grad_()
    scale, shift = torch.rand(4).requires_grad_(), torch.rand(4).requires_grad_()
    moments = OPS.batch_norm(rows, scale, shift, 1e-5)[1:]
    qkv, bias = torch.rand(2, 5, 12), torch.zeros(1, 5, 5)
    mixed = OPS.attention(qkv, 2, bias)
    shared, kept = torch.rand(3, 4).requires_grad_(), torch.tensor([2, 0])
    return {
        "fps": (x, start, None, 4),
        "fps lengths": (x, start, torch.tensor([12, 5]), 4),
        "knn": (yg, xg, 3),
        "ball_query": (y, x, 0.5, 4),
        "gather": (xg, idx[..., 0]),
        "gather_backward": (row_grad, idx[..., 0], 12),
        "interpolate": (features, idx, weight),
        "interpolate_backward": (row_grad, features, idx, weight, True),
        "interpolate_backward features": (row_grad, features, idx, weight, False),
        "attention": (qkv.clone().requires_grad_(), 2, None),
        "attention bias": (qkv.clone().requires_grad_(), 2, bias),
        "attention_backward": (torch.rand(2, 5, 4).requires_grad_(), qkv, *mixed, 2, bias),
        "batch_norm": (rows, scale, shift, 1e-5),
        "batch_norm_backward": (row_flow, rows, scale, *moments, 1e-5),
        "norm_relu": (rows, scale, shift, 1e-5, None, None, 1, True),
        "norm_relu all": (rows, scale, shift, 1e-5, shared, kept, 3, True),
        "norm_relu_backward": (row_flow, None, rows, scale, *moments, 1e-5, None, None, 1),
        "norm_relu_backward all": (
            *(row_flow[:6], OPS.norm_relu(rows, scale, shift, 1e-5, shared, kept, 3, True)[0]),
            *(rows, scale, *moments, 1e-5, shared, kept, 3),
        ),
        "norm_relu_fixed": (
            *(rows.detach(), scale.detach(), shift.detach(), *moments, 1e-5, shared.detach(), 3),
        ),
        "group_max": (features,),
        "group_max_backward": (row_flow, torch.randint(0, 5, (9, 4)).short(), 5),
        "chamfer": (xg, yg),
        "chamfer_backward": (*grown, xg, yg, *near[2:]),
        "chamfer_backward a": (*grown, xg, yg, *near[2:], True, False),
        "chamfer_backward b": (*grown, xg, yg, *near[2:], False, True),
        "auction": (x, x.flip(1), 1e-3),
    }


def test_every_operator_has_a_sample():
    assert {case.split()[0] for case in samples()} == set(point_ops.backends())


@pytest.mark.parametrize("case", sorted(samples()))
def test_opcheck(case):
    report = torch.library.opcheck(getattr(OPS, case.split()[0]).default, samples()[case])
    assert set(report.values()) == {"SUCCESS"}


class Grouping(nn.Module):
    """Centres, neighbours, a layer, interpolation back, and a Chamfer term."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, points):
        centers = point_ops.gather(points, point_ops.farthest_point_sample(points, 8))
        _, idx = point_ops.knn(centers, points, 5)
        patches = point_ops.group(points, idx) - centers.unsqueeze(2)
        tokens = self.layer(patches).amax(2)
        inside = point_ops.ball_query(centers, points, 0.7, 4)
        back = point_ops.interpolate(points, centers, tokens)
        loss = point_ops.chamfer_l2(patches, patches.flip(0))
        return back + point_ops.group(points, inside).sum() + loss


def test_compiles_as_one_graph():
    points, block = cloud(2, 40), Grouping()
    torch._dynamo.reset()
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    one, other = block(points), compiled(points)
    torch.testing.assert_close(one, other)
    expected = torch.autograd.grad(one.sum(), block.layer.weight)[0]
    torch.testing.assert_close(torch.autograd.grad(other.sum(), block.layer.weight)[0], expected)


@pytest.mark.slow
def test_compiles_with_inductor():
    points, block = cloud(2, 40), Grouping()
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(block, fullgraph=True)(points), block(points))


def test_exports_with_a_free_number_of_points():
    block = Grouping().eval()
    n = torch.export.Dim("n", min=10, max=4096)
    program = torch.export.export(block, (cloud(2, 40),), dynamic_shapes={"points": {1: n}})
    points = cloud(2, 55)
    torch.testing.assert_close(program.module()(points), block(points))


def test_backends_name_every_operator():
    assert set(point_ops.backends("cpu").values()) <= {"cpp", "torch"}
    assert set(point_ops.backends("cuda").values()) <= {"triton", "torch", "cpp"}
    with pytest.raises(ValueError, match="device: expected"):
        point_ops.backends("tpu")


def in_process(code, **environment):
    run = subprocess.run(
        [sys.executable, "-W", "always", "-c", code],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run


PROBE = """
import torch, point_ops
x = torch.rand(2, 300, 3, generator=torch.Generator().manual_seed(0)); x[0, 5] = x[0, 9]
q = point_ops.gather(x, point_ops.farthest_point_sample(x, 20))
d, i = point_ops.knn(q, x, 40)
c = point_ops.chamfer(x, q)
total = [q.sum(), d.sum(), i.sum(), point_ops.ball_query(q, x, .3, 9).sum(), c[0].sum(), c[3].sum()]
print(set(point_ops.backends("cpu").values()), [float(t) for t in total])
"""


def here(code=PROBE):
    """What `code` prints in this process."""
    printed = []
    exec(code, {"print": lambda *parts: printed.append(" ".join(map(str, parts)) + "\n")})
    return "".join(printed)


def test_the_torch_fallback_gives_the_same_numbers():
    fallback = in_process(PROBE, POINT_OPS_BACKEND="torch").stdout
    assert fallback.startswith("{'torch'}")
    assert here().split("}")[1] == fallback.split("}")[1]


def test_without_the_library_the_fallback_says_so_once(tmp_path):
    skipped = shutil.ignore_patterns("_C*", "__pycache__", "csrc")
    shutil.copytree(Path(point_ops.__file__).parent, tmp_path / "point_ops", ignore=skipped)
    (tmp_path / "user.py").write_text("""
import point_ops
import point_ops.knn, torch
point_ops.knn(torch.rand(1, 9, 3), torch.rand(1, 9, 3), 2)
print(point_ops.__file__, set(point_ops.backends("cpu").values()))
""")
    run = in_process("import user", PYTHONPATH=str(tmp_path), POINT_OPS_BACKEND="")
    assert run.stdout == f"{tmp_path / 'point_ops' / '__init__.py'} {{'torch'}}\n"
    assert run.stderr.count("RuntimeWarning") == 1
    assert f"{tmp_path / 'user.py'}:2: RuntimeWarning: point_ops: no C++ kernels" in run.stderr


WIDTHS = """
import hashlib, torch, point_ops
for n, m in ((300, 20), (300, 1030), (257, 263)):  # the last two fill whole vectors and their tails
    draw = torch.Generator().manual_seed(n + m)
    a, b = torch.rand(2, n, 3, generator=draw), torch.rand(2, m, 3, generator=draw)
    a[0, 5], a[1, 3::17, 1], b[0, ::13, 2], b[1, m - 1] = a[0, 9], torch.nan, torch.nan, torch.nan
    for one, other in ((a, b), (b, a)):
        for part in point_ops.chamfer(one, other):
            print(hashlib.sha256(part.numpy().tobytes()).hexdigest())
"""


@pytest.mark.skipif("cpp" not in point_ops.backends("cpu").values(), reason="no C++ kernels here")
@pytest.mark.parametrize("width", ["128-bit", "avx2"])
def test_every_vector_width_gives_the_same_bits(width):
    assert in_process(PROBE + WIDTHS, POINT_OPS_SIMD=width).stdout == here(PROBE + WIDTHS)
