"""The drop-ins' autograd functions: values and gradients against plain torch, written out."""

import pytest
import torch
from point_ops_cases import cloud
from torch import Tensor
from torch.autograd import Function

pytest.importorskip("point_ops_compat", reason="the drop-in names are not installed")
import chamfer_dist
import emd
import emd_cuda
import pointnet2_ops
from pointnet2_ops import pointnet2_utils as ops

B, C, N, M, K = 2, 5, 17, 6, 4


def both(call, plain, *inputs: Tensor) -> None:
    """Same values, and same gradients of a weighted sum of them, in every input."""
    ours = [x.detach().clone().requires_grad_() for x in inputs]
    theirs = [x.detach().clone().requires_grad_() for x in inputs]
    got, wanted = call(*ours), plain(*theirs)
    torch.testing.assert_close(got, wanted)
    weights = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1))
    grads = torch.autograd.grad((got * weights.to(got.dtype)).sum(), ours)
    expected = torch.autograd.grad((wanted * weights.to(got.dtype)).sum(), theirs)
    for one, other in zip(grads, expected, strict=True):
        torch.testing.assert_close(one, other)


def operator(name: str):
    """A function of the drop-in, or what `apply` of one of its classes does."""
    found = getattr(ops, name)
    return found.apply if isinstance(found, type) else found


def features(dtype=torch.float64) -> Tensor:
    return torch.randn(B, C, N, generator=torch.Generator().manual_seed(0)).to(dtype)


def indices(*shape: int) -> Tensor:
    """Some twice, so that gradients add up."""
    found = torch.randint(0, N, shape, generator=torch.Generator().manual_seed(3))
    found[..., -1] = found[..., 0]
    return found


def picked(table: Tensor, idx: Tensor) -> Tensor:
    """table (B, C, N), idx (B, ...) -> (B, C, ...), cloud by cloud."""
    return torch.stack([one[:, at] for one, at in zip(table, idx, strict=True)])


@pytest.mark.parametrize(
    "name", ["GatherOperation", "gather_operation", "GroupingOperation", "grouping_operation"]
)
@pytest.mark.parametrize("kind", [torch.int32, torch.int64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gather_and_group(name, kind, dtype):
    idx = indices(B, M, K) if "roup" in name else indices(B, M)
    call = operator(name)
    both(lambda x: call(x, idx.to(kind)), lambda x: picked(x, idx), features(dtype))


@pytest.mark.parametrize("name", ["ThreeInterpolate", "three_interpolate"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_three_interpolate(name, dtype):
    idx = indices(B, M, 3)
    weight = torch.rand(B, M, 3, generator=torch.Generator().manual_seed(5)).to(dtype)

    def plain(table: Tensor) -> Tensor:
        return (picked(table, idx) * weight.unsqueeze(1)).sum(-1)

    call = operator(name)
    both(lambda x: call(x, idx.int(), weight), plain, features(dtype))


def test_weights_of_an_interpolation_get_no_gradient_as_in_the_original():
    weight = torch.rand(B, M, 3, requires_grad=True)
    table = features(torch.float32).requires_grad_()
    ops.three_interpolate(table, indices(B, M, 3).int(), weight).sum().backward()
    assert table.grad is not None
    assert weight.grad is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_keep_their_dtype(dtype):
    table = features(dtype).requires_grad_()
    weight = torch.full((B, M, 3), 1 / 3)
    for out in (
        ops.gather_operation(table, indices(B, M).int()),
        ops.grouping_operation(table, indices(B, M, K).int()),
        ops.three_interpolate(table, indices(B, M, 3).int(), weight),
    ):
        assert out.dtype == dtype
        (grad,) = torch.autograd.grad(out.float().sum(), table)
        assert grad.dtype == dtype
        assert grad.isfinite().all()


def test_gradients_of_gradients():
    idx, weight = indices(B, M, 3), torch.rand(B, M, 3, dtype=torch.float64)
    table = features().requires_grad_()
    flow = torch.randn(B, C, M, dtype=torch.float64, requires_grad=True)
    for call in (
        lambda x: ops.gather_operation(x, idx[..., 0]),
        lambda x: ops.three_interpolate(x, idx, weight),
    ):
        assert torch.autograd.gradcheck(call, table)
        assert torch.autograd.gradgradcheck(call, table, flow)


def test_neighbours_are_found_and_have_no_gradient():
    unknown, known = (cloud(B, n, seed=n).requires_grad_() for n in (M, N))
    distances = (unknown.unsqueeze(2) - known.unsqueeze(1)).square().sum(-1)
    nearest = distances.sort(2)
    for call in (ops.ThreeNN.apply, ops.three_nn):
        distance, idx = call(unknown, known)
        assert idx.dtype == torch.int32
        torch.testing.assert_close(idx.long(), nearest.indices[..., :3])
        torch.testing.assert_close(distance, nearest.values[..., :3].detach().sqrt())
        assert not distance.requires_grad
    for call in (ops.BallQuery.apply, ops.ball_query):
        found = call(1.2, K, known, unknown)
        assert found.dtype == torch.int32
        for row, near in zip(found.flatten(0, 1), (distances < 1.44).flatten(0, 1), strict=True):
            inside = near.nonzero()[:, 0].tolist()[:K]
            first = inside[0] if inside else 0
            assert row.tolist() == inside + [first] * (K - len(inside))


def test_they_are_the_classes_of_torch_that_the_original_has():
    for name in (
        "FurthestPointSampling",
        "GatherOperation",
        "ThreeNN",
        "ThreeInterpolate",
        "GroupingOperation",
        "BallQuery",
    ):
        assert issubclass(getattr(pointnet2_ops.pointnet2_utils, name), Function)
    assert issubclass(emd.EarthMoverDistanceFunction, Function)


def test_set_abstraction_trains():
    """A step through sampling, grouping, both modules, down to every parameter and the features."""
    torch.manual_seed(0)
    modules = pointnet2_ops.pointnet2_modules
    points, lifted = cloud(B, 64), torch.rand(B, 5, 64, requires_grad=True)
    down = modules.PointnetSAModuleMSG(12, [0.8, 1.5], [6, 8], [[5, 8], [5, 7]])
    up = modules.PointnetFPModule(mlp=[15 + 5, 4])
    centers, pooled = down(points, lifted)
    up(points, centers, lifted, pooled).square().mean().backward()
    for parameter in (*down.parameters(), *up.parameters(), lifted):
        assert parameter.grad.abs().sum() > 0


def test_a_set_abstraction_of_ones_own():
    modules = pointnet2_ops.pointnet2_modules

    class Own(modules._PointnetSAModuleBase):
        def __init__(self):
            super().__init__()
            self.npoint = 4
            self.groupers = torch.nn.ModuleList([ops.QueryAndGroup(1.0, 3)])
            self.mlps = torch.nn.ModuleList([modules.build_shared_mlp([3, 6], bn=False)])

    assert issubclass(modules.PointnetSAModuleMSG, modules._PointnetSAModuleBase)
    centers, pooled = Own()(cloud(B, N), None)
    assert (centers.shape, pooled.shape) == ((B, 4, 3), (B, 6, 4))


# --- Chamfer and earth mover's distance ---------------------------------------------------


def squared(a: Tensor, b: Tensor) -> Tensor:
    return (a.unsqueeze(2) - b.unsqueeze(1)).square().sum(-1)


@pytest.mark.parametrize(
    ("module", "plain"),
    [
        ("ChamferDistanceL2", lambda d: d.amin(2).mean() + d.amin(1).mean()),
        (
            "ChamferDistanceL1",
            lambda d: (d.amin(2).sqrt().mean() + d.amin(1).sqrt().mean()) / 2,
        ),
        ("ChamferDistanceL2_unreduced", lambda d: d.amin(2) + d.amin(1)),
    ],
)
def test_chamfer(module, plain):
    both(
        getattr(chamfer_dist, module)(),
        lambda a, b: plain(squared(a, b)),
        cloud(3, 9, dtype=torch.float64),
        cloud(3, 9, dtype=torch.float64, seed=1),
    )


def test_chamfer_a_direction():
    a, b = cloud(3, 9), cloud(3, 7, seed=1)
    for side in (0, 1):
        both(
            lambda x, y, side=side: chamfer_dist.ChamferDistanceL2_split()(x, y)[side],
            lambda x, y, side=side: squared(x, y).amin(2 - side).mean(),
            a,
            b,
        )


def test_unreduced_chamfer_is_one_loss_a_point_that_folds_into_patches():
    a = torch.tensor([[[0.0, 0, 0], [3, 0, 0]]])
    b = torch.tensor([[[1.0, 0, 0], [3, 2, 0]]])
    out = chamfer_dist.ChamferDistanceL2_unreduced()(a, b)
    assert out.tolist() == [[1 + 1, 4 + 4]]
    patches, targets = cloud(6, 8), cloud(6, 8, seed=1)
    loss = chamfer_dist.ChamferDistanceL2_unreduced()(patches, targets).reshape(2, 3, 8)
    torch.testing.assert_close(loss.mean(), chamfer_dist.ChamferDistanceL2()(patches, targets))
    with pytest.raises(ValueError, match="expected 8 points as in xyz1, got 7"):
        chamfer_dist.ChamferDistanceL2_unreduced()(patches, targets[:, 1:])


def test_earth_movers_distance():
    a, b = cloud(3, 8, dtype=torch.float64), cloud(3, 8, dtype=torch.float64, seed=1)
    match = emd_cuda.approxmatch_forward(a, b)

    def plain(x: Tensor, y: Tensor) -> Tensor:
        return (match * squared(y, x)).sum((1, 2))

    both(emd.EarthMoverDistanceFunction.apply, plain, a, b)
    both(emd.EarthMoverDistance(), plain, a, b)
    both(lambda x, y: emd.earth_mover_distance(x, y, transpose=False), plain, a, b)
    both(lambda x, y: emd.emd(x.transpose(1, 2), y.transpose(1, 2)), plain, a, b)
    both(emd.earth_mover_distance(), lambda x, y: plain(x, y).mean() / 8, a, b)
    both(
        lambda x, y: emd.EarthMoverDistanceMean()(x.mT, y.mT, True),
        lambda x, y: plain(x, y).mean() / 8,
        a,
        b,
    )
    with pytest.raises(TypeError, match="two clouds, or none"):
        emd.earth_mover_distance(a)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: ops.gather_operation(x.mT, torch.zeros(B, M).int()),
        lambda x: ops.grouping_operation(x.mT, torch.zeros(B, M, K).int()),
        lambda x: ops.three_interpolate(x.mT, torch.zeros(B, M, 3).int(), torch.rand(B, M, 3)),
        lambda x: ops.three_nn(x, x.flip(1))[0],
        lambda x: chamfer_dist.ChamferDistanceL1()(x, x.flip(1)),
        lambda x: emd.earth_mover_distance(x, x.flip(1), transpose=False),
    ],
    ids=["gather", "group", "three_interpolate", "three_nn", "chamfer_dist", "emd"],
)
def test_forward_mode_is_refused(call) -> None:
    x = cloud(B, N)
    with pytest.raises(RuntimeError):
        torch.func.jvp(call, (x,), (x,))
    with torch.autograd.forward_ad.dual_level(), pytest.raises(NotImplementedError):
        call(torch.autograd.forward_ad.make_dual(x, x))
