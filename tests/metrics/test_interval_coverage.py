"""How often an interval holds the true value, by drawing families and clouds many times."""

import numpy as np
import pytest
from scipy import stats

from sa3d.metrics.intervals import Interval, difference, estimate

REACHED = 0.94  # the least share of intervals that must hold the true value


def kicad_sizes():
    """About 1 100 clouds in 130 families, two of which hold a third of the clouds."""
    small = np.random.default_rng(7).lognormal(1.1, 1.0, 128)
    return np.concatenate([[190, 175], np.maximum(1, np.round(small * 735 / small.sum()))])


SIZES = {
    "kicad": kicad_sizes().astype(int),
    "few": np.array([180, 170, 110, 90, 80, 70, 60, 55, 50, 45, 40, 35, 25, 20, 12]),
}


def test_the_simulated_sizes_are_those_of_the_kicad_test_split():
    sizes = SIZES["kicad"]
    assert len(sizes) == 130
    assert 1_050 <= sizes.sum() <= 1_150
    assert np.sort(sizes)[-2:].sum() / sizes.sum() == pytest.approx(1 / 3, abs=0.02)


def coverage(draw, value, sizes, times, interval_of):
    """Share of ``times`` samples whose interval holds ``value``."""
    family = np.repeat(np.arange(len(sizes)), sizes)
    rng = np.random.default_rng(11)
    found = [interval_of(*draw(rng, family), family) for _ in range(times)]
    return sum(interval.holds(value) for interval in found) / times


def beta_families(accuracy, concentration):
    """Each family has a probability of being right: Beta with that mean."""
    a, b = accuracy * concentration, (1 - accuracy) * concentration

    def draw(rng, family):
        chance = rng.beta(a, b, family[-1] + 1)
        return [(rng.random(len(family)) < chance[family]).astype(float)]

    return draw


def of_estimate(scores, family):
    return estimate(scores, family).interval


def of_difference(first, second, family):
    return difference(first, second, family).interval


def of_bootstrap(scores, family):
    """The plain bootstrap over families: what the half-samples are there to replace."""
    totals, sizes = np.bincount(family, weights=scores), np.bincount(family)
    count = len(sizes)
    weights = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), 1_000)
    low, high = np.quantile((weights @ totals) / (weights @ sizes), [0.025, 0.975])
    return Interval(low, high)


@pytest.mark.parametrize(
    ("sizes", "accuracy", "concentration"),
    [
        ("kicad", 0.4, 1.0),
        ("kicad", 0.55, 3.0),
        ("kicad", 0.7, 0.3),
        ("few", 0.4, 3.0),
        ("few", 0.7, 1.0),
    ],
)
def test_intervals_over_families_cover_what_they_claim(sizes, accuracy, concentration):
    draw = beta_families(accuracy, concentration)
    assert coverage(draw, accuracy, SIZES[sizes], 1_000, of_estimate) >= REACHED


def test_the_simulation_finds_the_plain_bootstrap_too_narrow():
    assert coverage(beta_families(0.55, 1.0), 0.55, SIZES["kicad"], 200, of_bootstrap) < REACHED


def correlated(first, second, runs=1, run_spread=0.0, mixed_spread=0.0):
    """Two variants that are right where a normal variable is above a threshold.

    The variable sums up what the family, the cloud, the run, the family in the run and chance
    contribute; the variants have most of the family's part in common.
    """
    family_spread, cloud_spread, shared = 1.5, 1.0, 0.8
    parts = [family_spread, cloud_spread, run_spread, mixed_spread, 1.0]
    scale = float(np.linalg.norm(parts))

    def draw(rng, family):
        count, clouds = family[-1] + 1, len(family)
        common, cloud = rng.normal(size=count), cloud_spread * rng.normal(size=clouds)
        scores = []
        for accuracy in (first, second):
            own = shared**0.5 * common + (1 - shared) ** 0.5 * rng.normal(size=count)
            level = family_spread * own[family] + cloud
            level = level + run_spread * rng.normal(size=(runs, 1))
            level = level + mixed_spread * rng.normal(size=(runs, count))[:, family]
            level = level + rng.normal(size=(runs, clouds))
            scores.append((level > -stats.norm.ppf(accuracy) * scale).astype(float))
        return scores

    return draw


@pytest.mark.parametrize(
    ("sizes", "first", "second"),
    [("kicad", 0.6, 0.52), ("few", 0.5, 0.5), ("few", 0.65, 0.55)],
)
def test_intervals_of_differences_over_families_cover_what_they_claim(sizes, first, second):
    draw = correlated(first, second)
    assert coverage(draw, first - second, SIZES[sizes], 1_000, of_difference) >= REACHED


def test_models_that_are_alike_are_seldom_told_apart():
    # 3 % in theory, since signs are equally likely both ways
    covered = coverage(correlated(0.6, 0.6), 0.0, SIZES["kicad"], 1_000, of_difference)
    assert 0.955 <= covered <= 0.985


@pytest.mark.parametrize(
    ("sizes", "runs", "run_spread"),
    [("kicad", 3, 0.1), ("few", 5, 0.3)],
)
def test_intervals_over_runs_and_families_cover_what_they_claim(sizes, runs, run_spread):
    draw = correlated(0.6, 0.55, runs, run_spread, mixed_spread=0.2)

    def first_alone(first, second, family):
        return estimate(first, family).interval

    times = 500
    assert coverage(draw, 0.6, SIZES[sizes], times, first_alone) >= REACHED
    assert coverage(draw, 0.05, SIZES[sizes], times, of_difference) >= REACHED


def test_one_run_alone_does_not_tell_what_another_run_would_give():
    draw = correlated(0.6, 0.55, 3, run_spread=0.3)

    def first_run(first, second, family):
        return difference(first[0], second[0], family).interval

    assert coverage(draw, 0.05, SIZES["kicad"], 300, first_run) < 0.8


@pytest.mark.parametrize("runs", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_intervals_over_runs_and_independent_clouds_cover_what_they_claim(runs):
    draw = correlated(0.6, 0.55, runs, run_spread=0.15)
    alone = np.ones(300, dtype=int)
    assert coverage(draw, 0.05, alone, 1_000, of_difference) >= REACHED


@pytest.mark.slow
@pytest.mark.parametrize("sizes", ["kicad", "few"])
@pytest.mark.parametrize("accuracy", [0.4, 0.55, 0.7])
@pytest.mark.parametrize("concentration", [0.3, 1.0, 3.0, 10.0])
def test_intervals_over_families_cover_what_they_claim_at_length(sizes, accuracy, concentration):
    draw = beta_families(accuracy, concentration)
    assert coverage(draw, accuracy, SIZES[sizes], 4_000, of_estimate) >= REACHED


@pytest.mark.slow
@pytest.mark.parametrize("sizes", ["kicad", "few"])
@pytest.mark.parametrize(("runs", "run_spread"), [(3, 0.1), (3, 0.3), (5, 0.3)])
def test_several_runs_cover_what_they_claim_at_length(sizes, runs, run_spread):
    draw = correlated(0.6, 0.55, runs, run_spread, mixed_spread=0.2)

    def first_alone(first, second, family):
        return estimate(first, family).interval

    assert coverage(draw, 0.6, SIZES[sizes], 1_500, first_alone) >= REACHED


@pytest.mark.slow
@pytest.mark.parametrize("sizes", ["kicad", "few"])
@pytest.mark.parametrize("second", [0.6, 0.52, 0.45])
@pytest.mark.parametrize(("runs", "run_spread"), [(1, 0.0), (3, 0.1), (3, 0.3), (5, 0.3)])
def test_differences_cover_what_they_claim_at_length(sizes, second, runs, run_spread):
    draw = correlated(0.6, second, runs, run_spread, mixed_spread=0.2 * (runs > 1))
    assert coverage(draw, 0.6 - second, SIZES[sizes], 1_500, of_difference) >= REACHED
