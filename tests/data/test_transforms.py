"""Transforms: the right law, per sample, from the given generator."""

from __future__ import annotations

import pytest
import torch

from sa3d.data import transforms
from sa3d.data.preprocessing import unit_sphere
from sa3d.data.transforms import rotate_y, scale_translate, scale_translate_small
from sa3d.errors import ConfigError
from sa3d.registry import AUGMENTATIONS


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clouds(count: int = 64, points: int = 32) -> torch.Tensor:
    return unit_sphere(torch.randn(count, points, 3, generator=generator(1)))


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_deterministic_per_sample_and_pure(name: str) -> None:
    points = clouds()
    before = points.clone()
    out = transforms.get(name)(points, generator())
    assert torch.equal(points, before)
    assert out.shape == points.shape
    assert torch.equal(out, transforms.get(name)(points, generator()))
    if name != "none":
        same = transforms.get(name)(points[:1].expand(8, -1, -1), generator())
        assert len({tuple(row.flatten().tolist()) for row in same}) == 8
        assert not torch.equal(out, transforms.get(name)(points, generator(5)))


def test_small_scale_is_the_same_on_all_axes() -> None:
    probe = torch.tensor([[0.0, 0, 0], [1, 1, 1]]).expand(4000, 2, 3)
    out = scale_translate_small(probe, generator())
    shift, scale = out[:, 0], out[:, 1] - out[:, 0]
    assert (scale - scale[:, :1]).abs().max() < 1e-6
    assert 0.8 <= scale.min() < 0.801
    assert 1.249 < scale.max() <= 1.2500002
    assert -0.1 <= shift.min() < -0.099
    assert 0.099 < shift.max() <= 0.1
    assert torch.corrcoef(shift.T)[0, 1].abs() < 0.1  # an axis each


def test_scale_translate_ranges() -> None:
    probe = torch.tensor([[0.0, 0, 0], [1, 1, 1]]).expand(4000, 2, 3)
    out = scale_translate(probe, generator())
    shift, scale = out[:, 0], out[:, 1] - out[:, 0]
    for values, low, high in ((shift, -0.2, 0.2), (scale, 2 / 3, 3 / 2)):
        assert values.min() >= low - 1e-6
        assert values.max() <= high + 1e-6
        torch.testing.assert_close(
            values.mean(dim=0), torch.full((3,), (low + high) / 2), atol=0.02, rtol=0
        )
        # axes are independent
        assert torch.corrcoef(values.T).fill_diagonal_(0).abs().max() < 0.08


def test_rotate_y_keeps_height_and_lengths() -> None:
    points = clouds(500)
    out = rotate_y(points, generator())
    torch.testing.assert_close(out[..., 1], points[..., 1])
    torch.testing.assert_close(out.norm(dim=2), points.norm(dim=2))
    cross = points[..., 2] * out[..., 0] - points[..., 0] * out[..., 2]
    dot = points[..., 0] * out[..., 0] + points[..., 2] * out[..., 2]
    angle = torch.atan2(cross.sum(1), dot.sum(1))
    assert torch.histc(angle, 4, -torch.pi, torch.pi).min() > 80, "headings are not uniform"


def test_unknown_name_suggests() -> None:
    with pytest.raises(ConfigError, match=r"scale_translat'.*did you mean 'scale_translate'"):
        transforms.get("scale_translat")
