"""BatchNorm over rows: exact where torch's is not, and otherwise torch's."""

import copy
import dataclasses
import statistics

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sa3d import models
from sa3d.config.loading import load_experiment
from sa3d.engine.types import Progress
from sa3d.layers.batch_norm import FUSED, BatchNorm
from sa3d.layers.patches import PatchEmbed
from sa3d.layers.transformer import DropPath
from sa3d.masking.base import Mask
from sa3d.masking.random import RandomMask
from sa3d.models.point_m2ae.backbone import PointM2AE


class Names(TorchDispatchMode):
    """Names of the operators that are called."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.name().split(".")[0])
        return func(*args, **(kwargs or {}))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pair(channels, cls=nn.BatchNorm1d):
    """Ours and torch's with the same state."""
    ours, theirs = BatchNorm(channels), cls(channels)
    with torch.no_grad():
        ours.weight.copy_(1 + 0.2 * normal(channels, seed=1))
        ours.bias.copy_(normal(channels, seed=2))
        ours.running_mean.copy_(normal(channels, seed=3))
        ours.running_var.copy_(0.5 + normal(channels, seed=4).square())
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def step(norm, rows, flow):
    """Output and gradients of rows, weight and bias."""
    rows = rows.clone().requires_grad_()
    out = norm(rows)
    return out.detach(), *torch.autograd.grad(out, (rows, norm.weight, norm.bias), flow)


# --- exact -------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "c"), [(2, 1), (3, 17), (500, 24), (3000, 130)])
def test_outputs_and_gradients_are_those_of_float64(n, c):
    ours, theirs = pair(c)
    rows, flow = 3 + normal(n, c), normal(n, c, seed=5)
    found = step(ours, rows, flow)
    expected = step(theirs.double(), rows.double(), flow.double())
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        # of two rows the gradient is almost nothing: rounding shows beside what it is a sum of
        assert (one - other).norm() <= 2e-6 * (other.norm() + flow.norm())


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_million_rows_away_from_zero(dtype):
    ours, _ = pair(128)
    ours.momentum = 1.0
    rows, flow = (3 + normal(1_048_576, 128)).to(dtype), normal(1_048_576, 128, seed=5).to(dtype)
    _, to_rows, to_weight, to_bias = step(ours, rows, flow)
    wide = rows.double()
    variance, mean = torch.var_mean(wide, 0)
    torch.testing.assert_close(ours.running_mean.double(), mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(ours.running_var.double(), variance, rtol=1e-6, atol=0)
    unit = wide.sub_(mean).mul_((variance * (1 - 1 / len(rows)) + ours.eps).rsqrt())
    total, product = flow.double().sum(0), (flow * unit).sum(0)
    size = len(rows) ** 0.5  # sums of numbers of size 1 that cancel
    assert (to_bias - total).abs().max() < 3e-6 * size
    assert (to_weight - product).abs().max() < 3e-6 * size
    unit.mul_(-product / len(rows)).add_(flow).sub_(total / len(rows))
    unit.mul_(ours.weight.detach() * (variance * (1 - 1 / len(rows)) + ours.eps).rsqrt())
    gap = unit.sub_(to_rows).norm() / to_rows.double().norm()
    assert gap < (3e-7 if dtype == torch.float32 else 2e-3)


def test_gradcheck_through_the_module():
    ours, _ = pair(5)
    rows = normal(7, 5).double().requires_grad_()
    assert torch.autograd.gradcheck(ours.double(), rows)


def test_two_calls_give_the_same_bits():
    ours, _ = pair(40)
    rows, flow = 3 + normal(20_000, 40), normal(20_000, 40, seed=5)
    for one, other in zip(step(ours, rows, flow), step(ours, rows, flow), strict=True):
        assert torch.equal(one, other)


def relative_gap(backbone: PointM2AE, wide: PointM2AE, seed: int, masked: int) -> float:
    """Between the gradients of one cloud in float32 and in float64, of all parameters."""
    points = normal(1, 2048, 3, seed=seed)
    groups = backbone.group(points / points.norm(dim=2).max())
    progress = Progress(0, 1, 0, 1, torch.Generator().manual_seed(seed))
    mask = Mask.of(RandomMask(masked)(groups.centers, None, progress), masked)
    scales = [(s, s.centers.double(), s.patches.double()) for s in groups.scales]
    exact = dataclasses.replace(
        groups,
        scales=tuple(dataclasses.replace(s, centers=c, patches=p) for s, c, p in scales),
        centers=groups.centers.double(),
        patches=groups.patches.double(),
    )
    flat = []
    for model, seen in ((backbone, groups), (wide, exact)):
        model.zero_grad()
        decoded = model.decode(model.encode(seen, mask), seen, mask)
        model.point_loss(decoded, seen, mask).loss.backward()
        grads = [p.grad.double().flatten() for p in model.parameters() if p.grad is not None]
        flat.append(torch.cat(grads))
    return float((flat[0] - flat[1]).norm() / flat[1].norm())


@pytest.mark.slow
def test_gradients_of_point_m2ae_at_initialisation_are_those_of_float64():
    """The median of five clouds: now and then rounding decides which member of a patch is the
    maximum, and then gradients differ by 1e-3 whatever the normalisation does."""
    config = load_experiment("point-m2ae-sa3df")
    torch.manual_seed(0)
    backbone = models.build_backbone(config.model).train()
    for layer in backbone.modules():
        if isinstance(layer, DropPath):
            layer.rate = 0.0
    wide = copy.deepcopy(backbone).double()
    masked = config.methods["sa3df"].masked_of(64)
    gaps = [relative_gap(backbone, wide, seed, masked) for seed in range(5)]
    assert statistics.median(gaps) < 1e-4, gaps


# --- torch's -----------------------------------------------------------------------------


def test_running_statistics_are_torchs():
    ours, theirs = pair(9)
    for turn, n in enumerate((2, 50, 700)):
        rows = 1 + normal(n, 9, seed=turn)
        ours(rows)
        theirs(rows)
        for name, buffer in ours.named_buffers():
            expected = theirs.get_buffer(name)
            assert buffer.dtype == expected.dtype
            torch.testing.assert_close(buffer, expected, rtol=1e-6, atol=1e-6)
    assert int(ours.num_batches_tracked) == 3


def test_evaluation_and_state_are_torchs():
    ours, theirs = pair(9)
    assert isinstance(ours, nn.BatchNorm1d)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert (ours.eps, ours.momentum) == (theirs.eps, theirs.momentum)
    rows = normal(20, 9)
    assert torch.equal(ours.eval()(rows), theirs.eval()(rows))
    fresh = nn.BatchNorm1d(9).state_dict()
    for name, value in BatchNorm(9).state_dict().items():
        assert torch.equal(value, fresh[name])
        assert value.dtype == fresh[name].dtype


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
def test_dtypes_are_torchs(weights, dtype, autocast):
    ours, theirs = (norm.to(weights) for norm in pair(9))
    if (weights, dtype) in {
        (torch.bfloat16, torch.float32),
        (torch.bfloat16, torch.float16),
    }:
        with pytest.raises(RuntimeError, match="mixed dtype"):
            ours(normal(20, 9).to(dtype))
        return
    rows, flow = normal(20, 9).to(dtype), normal(20, 9, seed=5).to(dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found, expected = step(ours, rows, flow), step(theirs, rows, flow)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=2e-2, atol=2e-2)
    for name, buffer in ours.named_buffers():
        assert buffer.dtype == theirs.get_buffer(name).dtype


def test_one_row_in_training_and_other_shapes_are_refused():
    norm = BatchNorm(4)
    for module in (norm, nn.BatchNorm1d(4)):
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            module(torch.zeros(1, 4))
    assert int(norm.num_batches_tracked) == 0
    norm.eval()(torch.zeros(1, 4))
    for shape in ((4,), (3, 5), (2, 4, 6)):
        with pytest.raises(ValueError, match=r"expected shape \(rows, 4\), got"):
            norm(torch.zeros(shape))


def test_compiles_as_one_graph():
    ours, theirs = pair(6, BatchNorm)
    rows, flow = normal(30, 6), normal(30, 6, seed=5)
    torch._dynamo.reset()
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    leaf = rows.clone().requires_grad_()
    out = compiled(leaf)
    (grad,) = torch.autograd.grad(out, leaf, flow)
    expected = step(theirs, rows, flow)
    torch.testing.assert_close(out.detach(), expected[0])
    torch.testing.assert_close(grad, expected[1])
    for name, buffer in ours.named_buffers():
        torch.testing.assert_close(buffer, theirs.get_buffer(name))


def test_a_device_without_kernels_has_torchs_own_operators(monkeypatch):
    assert {"cpu", "cuda"} >= FUSED >= {"cpu"}
    torch.manual_seed(0)
    embed = PatchEmbed.of_points(24, 8)
    patches, visible = torch.randn(3, 5, 8, 3), torch.tensor([[0, 3], [1, 2], [2, 4]])
    found = []
    for names in ({"cpu"}, set()):
        monkeypatch.setattr("sa3d.layers.batch_norm.FUSED", names)
        monkeypatch.setattr("sa3d.layers.patches.FUSED", names)
        twin = copy.deepcopy(embed)
        with Names() as seen:
            tokens = twin(patches, visible)
            tokens.square().sum().backward()
            with torch.no_grad():
                still = twin.eval()(patches)
        fused = {name for name in seen.names if name.startswith("point_ops::")}
        wanted = {"norm_relu", "norm_relu_backward", "norm_relu_fixed", "group_max"}
        wanted = {f"point_ops::{name}" for name in (*wanted, "group_max_backward")}
        assert fused == (wanted if names else set())
        found.append([tokens, still, *(p.grad for p in twin.parameters()), *twin.buffers()])
    # a bias before a BatchNorm has a gradient of zero, but for rounding
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-5, atol=1e-4)
