"""Losses against transcriptions of their formulas in plain Python and numpy."""

import math

import numpy as np
import pytest
import torch

from sa3d.losses import absolute_loss, feature_distance, patch_chamfer, ranking_loss


def rand(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- ranking, relative ---------------------------------------------------------------------


def published_ranking(scores: np.ndarray, hardness: np.ndarray) -> float:
    """The published form, pair by pair: log(sigmoid + 1e-6), both orders counted."""
    total, pairs = 0.0, 0
    for s, y in zip(scores, hardness, strict=True):
        for i in range(len(s)):
            for j in range(len(s)):
                if y[i] == y[j]:
                    continue
                gap = s[j] - s[i] if y[j] > y[i] else s[i] - s[j]
                total -= math.log(1 / (1 + math.exp(-gap)) + 1e-6)
                pairs += 1
    return total / pairs


def test_ranking_is_the_published_formula():
    scores, hardness = rand(3, 11), rand(3, 11, seed=1)
    hardness[0, 3] = hardness[0, 7]  # a tie: left out of the pairs
    expected = published_ranking(scores.double().numpy(), hardness.numpy())
    assert ranking_loss(scores, hardness).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("gap", "differs"), [(0.0, 2e-6), (2.0, 8.4e-6), (5.0, 1.5e-4)])
def test_ranking_of_a_wrong_pair_differs_from_the_published_form_by_its_gap(gap, differs):
    scores, hardness = torch.tensor([[gap, 0.0]]).double(), torch.tensor([[0.0, 1.0]])
    ours = math.log1p(math.exp(gap))
    assert ranking_loss(scores, hardness).item() == pytest.approx(ours, rel=1e-6)
    found = ours - published_ranking(scores.numpy(), hardness.numpy())
    assert found == pytest.approx(math.log1p(1e-6 * (1 + math.exp(gap))), rel=1e-3)
    assert found == pytest.approx(differs, rel=0.1)


def test_ranking_is_mean_softplus_of_ordered_gaps():
    scores, hardness = rand(2, 9), rand(2, 9, seed=1)
    gaps = [
        float(s[hard] - s[easy])
        for s, y in zip(scores, hardness, strict=True)
        for hard in range(9)
        for easy in range(9)
        if y[hard] > y[easy]
    ]
    assert len(gaps) == 2 * 36
    expected = np.mean([math.log1p(math.exp(-gap)) for gap in gaps])
    assert ranking_loss(scores, hardness).item() == pytest.approx(expected, abs=1e-6)


def test_ranking_of_constant_scores_is_ln_2():
    assert ranking_loss(torch.zeros(4, 39), rand(4, 39)).item() == pytest.approx(
        math.log(2), abs=1e-6
    )


def test_ranking_of_strongly_ordered_scores_vanishes_and_reversed_does_not():
    order = torch.arange(20.0).repeat(2, 1)
    assert ranking_loss(order * 50, order).item() < 1e-6
    assert ranking_loss(-order * 50, order).item() > 50


def test_ranking_ignores_a_constant_per_sample():
    scores, hardness, shift = rand(3, 8), rand(3, 8, seed=1), torch.tensor([[5.0], [-3.0], [0.5]])
    torch.testing.assert_close(
        ranking_loss(scores + shift, hardness), ranking_loss(scores, hardness)
    )


def test_ranking_gradient_goes_to_scores_alone_and_lifts_the_harder():
    scores = torch.zeros(1, 2, requires_grad=True)
    hardness = torch.tensor([[1.0, 2.0]], requires_grad=True)
    ranking_loss(scores, hardness).backward()
    assert hardness.grad is None
    assert scores.grad is not None
    torch.testing.assert_close(scores.grad, torch.tensor([[0.5, -0.5]]))


def test_ranking_leaves_out_invalid_patches():
    scores, hardness = rand(2, 6), rand(2, 6, seed=1)
    valid = torch.tensor([[True] * 4 + [False] * 2] * 2)
    torch.testing.assert_close(
        ranking_loss(scores, hardness, valid), ranking_loss(scores[:, :4], hardness[:, :4])
    )


def test_ranking_without_any_pair_is_zero():
    scores = rand(2, 5).requires_grad_()
    loss = ranking_loss(scores, torch.ones(2, 5))
    loss.backward()
    assert loss.item() == 0
    assert scores.grad is not None
    assert not scores.grad.any()


# --- ranking, absolute ---------------------------------------------------------------------


def test_absolute_is_mse_to_standardised_hardness():
    scores, hardness = rand(3, 7), rand(3, 7, seed=1) * 0.01
    y = hardness.double().numpy()
    target = (y - y.mean(1, keepdims=True)) / np.sqrt(y.var(1, ddof=1, keepdims=True) + 1e-6)
    expected = ((scores.double().numpy() - target) ** 2).mean()
    assert absolute_loss(scores, hardness).item() == pytest.approx(expected, rel=1e-5)


def test_absolute_leaves_out_invalid_patches():
    scores, hardness = rand(2, 6), rand(2, 6, seed=1)
    valid = torch.tensor([[True] * 4 + [False] * 2] * 2)
    torch.testing.assert_close(
        absolute_loss(scores, hardness, valid), absolute_loss(scores[:, :4], hardness[:, :4])
    )


# --- feature -------------------------------------------------------------------------------


def test_feature_distance_is_two_minus_two_cosines():
    a, b = rand(2, 5, 16), rand(2, 5, 16, seed=1)
    x, y = a.double().numpy(), b.double().numpy()
    cosine = (x * y).sum(-1) / np.linalg.norm(x, axis=-1) / np.linalg.norm(y, axis=-1)
    np.testing.assert_allclose(feature_distance(a, b).numpy(), 2 - 2 * cosine, atol=1e-6)


def test_feature_distance_lies_in_0_to_4_and_near_2_at_random():
    a, b = rand(8, 39, 384), rand(8, 39, 384, seed=1)
    values = feature_distance(a, b)
    assert values.min() >= 0
    assert values.max() <= 4
    assert values.mean().item() == pytest.approx(2, abs=0.05)
    torch.testing.assert_close(feature_distance(a, 3 * a), torch.zeros(8, 39))
    torch.testing.assert_close(feature_distance(a, -a), torch.full((8, 39), 4.0))


# --- Chamfer -------------------------------------------------------------------------------


def brute_chamfer(p: np.ndarray, q: np.ndarray) -> float:
    square = ((p[:, None] - q[None]) ** 2).sum(-1)
    return square.min(1).mean() + square.min(0).mean()


def test_chamfer_is_the_brute_force_value_for_each_patch():
    p, q = rand(2, 3, 16, 3), rand(2, 3, 8, 3, seed=1)  # sizes may differ
    found = patch_chamfer(p, q)
    assert found.shape == (2, 3)
    for b in range(2):
        for m in range(3):
            expected = brute_chamfer(p[b, m].double().numpy(), q[b, m].double().numpy())
            assert found[b, m].item() == pytest.approx(expected, rel=1e-5)


def test_chamfer_is_symmetric_and_ignores_the_order_of_points():
    p, q = rand(2, 3, 8, 3), rand(2, 3, 8, 3, seed=1)
    torch.testing.assert_close(patch_chamfer(p, q), patch_chamfer(q, p))
    torch.testing.assert_close(patch_chamfer(p, q), patch_chamfer(p.flip(2), q.roll(3, 2)))


def test_chamfer_is_zero_just_where_the_sets_coincide():
    p = rand(1, 2, 8, 3)
    again = torch.cat([p.flip(2), p[:, :, :2]], dim=2)  # the same set, two points twice
    again[0, 1, 0, 0] += 0.1
    found = patch_chamfer(p, again)
    assert found[0, 0].item() == 0
    assert found[0, 1].item() > 0


# --- precision -----------------------------------------------------------------------------


def test_every_loss_is_float32_under_bf16_autocast():
    low = torch.bfloat16
    with torch.autocast("cpu", dtype=low):
        feature = feature_distance(rand(2, 4, 8).to(low), rand(2, 4, 8, seed=1).to(low))
        chamfer = patch_chamfer(rand(2, 4, 8, 3).to(low), rand(2, 4, 8, 3, seed=1))
        ranked = ranking_loss(rand(2, 4).to(low), chamfer)
        squared = absolute_loss(rand(2, 4).to(low), chamfer)
    assert {t.dtype for t in (feature, chamfer, ranked, squared)} == {torch.float32}
