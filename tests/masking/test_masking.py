"""Mask strategies: counts, curriculum, distribution, and where the randomness comes from."""

import numpy as np
import pytest
import torch
from scipy import stats

from sa3d import registry
from sa3d.engine.types import Progress
from sa3d.masking.base import Mask, MaskStrategy, take
from sa3d.masking.gc.strategy import GeometricMask
from sa3d.methods.mae.settings import MAEConfig
from sa3d.methods.sa3d.settings import SA3DConfig

G, M = 64, 39


def progress(seed: int = 0, epoch: int = 0, epochs: int = 400) -> Progress:
    return Progress(epoch, epochs, epoch, 1, torch.Generator().manual_seed(seed))


def centers(batch: int, seed: int = 7) -> torch.Tensor:
    return torch.rand(batch, G, 3, generator=torch.Generator().manual_seed(seed))


RECIPE = {"mask_ratio": 0.6, "epochs": 400, "batch_size": 4, "lr": 1e-3}


def strategy(name: str) -> MaskStrategy:
    """As SA3D's settings describe it, for 64 patches."""
    settings = SA3DConfig(**RECIPE, mask=name)
    found = registry.load(registry.MASKS, "mask strategy", name)
    return found.from_config(settings.mask, settings.masked_of(G))


@pytest.mark.parametrize("name", sorted(registry.MASKS))
@pytest.mark.parametrize("epoch", [0, 19, 200, 399])
def test_39_of_64_are_masked_whatever_the_strategy_and_the_epoch(name, epoch):
    scores = torch.rand(32, G, generator=torch.Generator().manual_seed(3))
    flags = strategy(name)(centers(32), scores, progress(epoch, epoch))
    assert flags.shape == (32, G)
    assert flags.dtype == torch.bool
    assert flags.sum(1).tolist() == [39] * 32
    assert (~flags).sum(1).tolist() == [25] * 32


def test_sa3d_floors_the_visible_count_and_point_mae_the_masked_count():
    assert strategy("gc").masked == 39
    assert MAEConfig(**RECIPE, mask="random").masked_of(G) == 38


def first_epochs(end_ratio: float, half: bool = False) -> dict[int, int]:
    """Hard budget -> first 0-based epoch that has it."""
    curriculum = GeometricMask(M, end_ratio, half)
    first: dict[int, int] = {}
    for epoch in range(400):
        first.setdefault(curriculum.hard_budget(epoch, 400), epoch)
    return first


def test_budget_grows_at_the_epochs_of_the_published_run():
    expected = [20, 41, 61, 82, 102, 123, 143, 164, 184, 205, 225, 246, 266, 287, 307, 328, 348]
    assert first_epochs(0.5) == dict(enumerate([0, *expected, 369, 389]))


def test_budget_with_end_ratio_0_8():
    first = first_epochs(0.8)
    assert [first[h] for h in range(1, 6)] == [12, 25, 38, 51, 64]
    assert max(first) == 31
    assert first[31] == 397


def test_the_curriculums_settings_are_those_of_the_mask():
    mask = {"name": "gc", "end_ratio": 0.8, "half_schedule": True}
    settings = SA3DConfig(**RECIPE, mask=mask).mask
    curriculum = GeometricMask.from_config(settings, M)
    budget = [curriculum.hard_budget(epoch, 400) for epoch in (0, 100, 199, 399)]
    assert budget == [0, int(M * 0.8 * 101 / 200), 31, 31]
    with pytest.raises(ValueError, match="end_ratio"):
        SA3DConfig(**RECIPE, mask={"name": "random", "end_ratio": 0.8})


def test_half_schedule_ends_its_growth_half_way():
    curriculum = GeometricMask(M, 0.5, half_schedule=True)
    budget = [curriculum.hard_budget(epoch, 400) for epoch in range(400)]
    assert budget[:199] == [int(M * 0.5 * (e + 1) / 200) for e in range(199)]
    assert set(budget[199:]) == {19}


def test_an_exact_budget_is_not_rounded_away():
    assert 100 * 0.29 < 29  # in floating point
    assert GeometricMask(100, 0.29).hard_budget(9, 10) == 29


def test_scores_are_needed_just_when_the_budget_is_not_zero():
    curriculum = strategy("gc")
    assert not curriculum.needs_scores(19, 400)
    assert curriculum.needs_scores(20, 400)
    assert not strategy("random").needs_scores(399, 400)


def test_the_hardest_patches_are_masked():
    generator = torch.Generator().manual_seed(0)
    scores = torch.stack([torch.randperm(G, generator=generator) for _ in range(16)]).float()
    for epoch, hard in [(20, 1), (200, 9), (399, 19)]:
        flags = strategy("gc")(centers(16), scores, progress(epoch, epoch))
        assert flags[scores >= G - hard].all()


def chi_square_p(flags: torch.Tensor, chosen: int) -> float:
    """p of equal inclusion of each column, for ``chosen`` drawn without replacement a row."""
    draws, columns = flags.shape
    share = chosen / columns
    observed = flags.sum(0).double().numpy()
    spread = draws * share * (1 - share)  # binomial; the draws of one row are exclusive:
    statistic = ((observed - draws * share) ** 2).sum() / spread * (columns - 1) / columns
    return float(stats.chi2.sf(statistic, columns - 1))


@pytest.mark.parametrize(("epoch", "hard"), [(0, 0), (205, 10), (399, 19)])
def test_the_rest_of_the_mask_is_uniform(epoch, hard):
    scores = torch.arange(G).float().repeat(10_000, 1)
    flags = strategy("gc")(torch.zeros(10_000, G, 3), scores, progress(5, epoch))
    rest = flags[:, : G - hard]  # the hardest come last in these scores
    assert 1e-3 < chi_square_p(rest, M - hard) < 1 - 1e-3


def test_random_masks_are_uniform_and_samples_are_independent():
    flags = strategy("random")(torch.zeros(10_000, G, 3), None, progress(5))
    assert 1e-3 < chi_square_p(flags, M) < 1 - 1e-3
    together = (flags[::2] & flags[1::2]).double().mean().item()
    assert together == pytest.approx((M / G) ** 2, abs=0.003)


def test_the_uniformity_test_finds_a_bias():
    keys = torch.rand(10_000, G, generator=torch.Generator().manual_seed(0))
    keys[:, 0] += 0.05
    flags = torch.zeros(10_000, G, dtype=torch.bool).scatter_(1, keys.topk(M).indices, True)
    assert chi_square_p(flags, M) < 1e-3


def test_a_block_is_the_neighbourhood_of_one_patch():
    points = centers(8)
    flags = strategy("block")(points, None, progress()).numpy()
    distance = np.linalg.norm(points.numpy()[:, :, None] - points.numpy()[:, None], axis=-1)
    nearest = distance.argsort(-1)[:, :, :M]  # of every patch
    for sample in range(8):
        masked = set(np.flatnonzero(flags[sample]))
        assert any(masked == set(row) for row in nearest[sample])


@pytest.mark.parametrize("name", sorted(registry.MASKS))
def test_all_randomness_comes_from_the_generator_of_progress(name):
    scores = torch.rand(8, G, generator=torch.Generator().manual_seed(3))
    draw = lambda seed: strategy(name)(centers(8), scores, progress(seed, 100))  # noqa: E731
    before = torch.get_rng_state()
    one = draw(1)
    torch.manual_seed(123)
    assert torch.equal(one, draw(1))
    assert not torch.equal(one, draw(2))
    torch.set_rng_state(before)
    draw(3)
    assert torch.equal(torch.get_rng_state(), before)


def test_index_form_of_a_mask():
    flags = torch.tensor([[True, False, True, False, False], [False, False, False, True, True]])
    mask = Mask.of(flags, 2)
    assert mask.visible.tolist() == [[1, 3, 4], [0, 1, 2]]
    assert mask.masked.tolist() == [[0, 2], [3, 4]]
    assert mask.order.tolist() == [[1, 3, 4, 0, 2], [0, 1, 2, 3, 4]]


def test_take_picks_rows_of_each_sample_both_ways():
    values = torch.randn(3, 5, 2, 4, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([[4, 0], [1, 1], [2, 3]])
    expected = torch.stack([values[b, index[b]] for b in range(3)])
    assert torch.equal(take(values, index), expected)
    assert torch.autograd.gradcheck(lambda x: take(x, index), values)
