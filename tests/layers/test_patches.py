"""Grouping and patch embedding against independent forms, in float64 where it is arithmetic."""

import copy

import numpy as np
import pytest
import torch
from tiny import clouds
from torch import nn

from sa3d.layers.patches import PatchEmbed, PositionMLP, group_points

# --- grouping ------------------------------------------------------------------------------


def brute_groups(cloud: np.ndarray, groups: int, size: int) -> tuple[list[int], np.ndarray]:
    chosen = [0]
    while len(chosen) < groups:
        gaps = ((cloud[:, None] - cloud[chosen][None]) ** 2).sum(-1).min(1)
        chosen.append(int(gaps.argmax()))
    order = ((cloud[chosen][:, None] - cloud[None]) ** 2).sum(-1).argsort(1, kind="stable")
    return chosen, order[:, :size]


def test_groups_are_farthest_points_and_their_nearest_neighbours():
    points = clouds(3).points
    groups = group_points(points, 16, 8)
    assert groups.patches.shape == (3, 16, 8, 3)
    for b in range(3):
        cloud = points[b].double().numpy()
        chosen, index = brute_groups(cloud, 16, 8)
        np.testing.assert_allclose(groups.centers[b].numpy(), cloud[chosen], rtol=1e-6)
        np.testing.assert_array_equal(groups.index[b].numpy(), index)
        expected = cloud[index] - cloud[chosen][:, None]
        np.testing.assert_allclose(groups.patches[b].numpy(), expected, atol=1e-6)
    assert not groups.patches[:, :, 0].any()  # the centre itself, at rank 0


def test_grouping_is_float32_without_gradient_and_per_sample():
    points = clouds(3).points.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        groups = group_points(points, 16, 8)
    assert groups.centers.dtype == groups.patches.dtype == torch.float32
    assert not groups.patches.requires_grad
    alone = group_points(points[1:2], 16, 8)
    assert torch.equal(alone.patches[0], groups.patches[1])


def test_too_few_points_are_refused():
    with pytest.raises(ValueError, match="16"):
        group_points(clouds(1, points=10).points, 16, 8)
    with pytest.raises(ValueError, match="8"):
        group_points(clouds(1, points=6).points, 4, 8)


# --- patch embedding -----------------------------------------------------------------------


class ConvEmbed(nn.Module):
    """The published formulation: kernel-1 convolutions on (B G, channels, K)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv1d(3, 128, 1), nn.BatchNorm1d(128), nn.ReLU(), nn.Conv1d(128, 256, 1)
        )
        self.second = nn.Sequential(
            nn.Conv1d(512, 512, 1), nn.BatchNorm1d(512), nn.ReLU(), nn.Conv1d(512, dim, 1)
        )

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        batch, groups, size, _ = patches.shape
        point = self.first(patches.reshape(batch * groups, size, 3).transpose(1, 2))
        whole = point.max(dim=2, keepdim=True)[0].expand(-1, -1, size)
        return self.second(torch.cat([whole, point], 1)).max(dim=2)[0].view(batch, groups, -1)


@pytest.fixture
def pair() -> tuple[PatchEmbed, ConvEmbed, torch.Tensor]:
    torch.manual_seed(0)
    ours, oracle = PatchEmbed.of_points(24, 128).double(), ConvEmbed(24).double()
    for norm in (ours.norm1, ours.norm2):
        nn.init.normal_(norm.weight, 1, 0.2)
        nn.init.normal_(norm.bias, 0, 0.2)
        nn.init.normal_(norm.running_mean, 0, 0.2)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    # both list their tensors in the order of the layers
    values = zip(oracle.state_dict().items(), ours.state_dict().values(), strict=True)
    oracle.load_state_dict({k: v.reshape(old.shape).clone() for (k, old), v in values})
    return ours, oracle, torch.randn(3, 5, 8, 3, dtype=torch.float64)


@pytest.mark.parametrize("training", [True, False])
def test_embedding_equals_the_convolutions(pair, training):
    ours, oracle, patches = pair
    ours.train(training)
    oracle.train(training)
    weight = torch.randn(3, 5, 24, dtype=torch.float64)
    found, expected = ours(patches), oracle(patches)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    for mine, theirs in zip(ours.parameters(), oracle.parameters(), strict=True):
        torch.testing.assert_close(
            mine.grad, theirs.grad.reshape(mine.shape), rtol=1e-8, atol=1e-10
        )
    for mine, theirs in zip(ours.buffers(), oracle.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_visible_tokens_equal_those_of_the_full_embedding(pair):
    ours, _, patches = pair
    twin = copy.deepcopy(ours)
    visible = torch.tensor([[0, 3], [1, 2], [2, 4]])
    full = ours(patches)
    some = twin(patches, visible)
    expected = torch.stack([full[b, visible[b]] for b in range(3)])
    torch.testing.assert_close(some, expected, rtol=1e-12, atol=1e-12)
    some.square().sum().backward()
    expected.square().sum().backward()
    for mine, theirs in zip(twin.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-9, atol=1e-11)


def test_batch_statistics_include_masked_patches(pair):
    ours, _, patches = pair
    visible = torch.tensor([[0, 3], [1, 2], [2, 4]])
    moved = patches.clone()
    moved[0, 1] += 10  # patch 1 of sample 0 is masked
    some, other = ours(patches, visible), ours(moved, visible)
    assert not torch.allclose(some[1], other[1])
    ours.eval()
    assert torch.equal(ours(patches, visible), ours(moved, visible))


def test_position_mlp_is_linear_exact_gelu_linear():
    torch.manual_seed(0)
    mlp = PositionMLP(24).double()
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    (w1, b1, w2, b2) = mlp.parameters()
    hidden = x @ w1.T + b1
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    torch.testing.assert_close(mlp(x), hidden @ w2.T + b2)
    assert w1.shape == (128, 3)
