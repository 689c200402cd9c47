import numpy as np
import pytest
from scipy import stats as oracle

from sa3d.report.stats import grouped_bootstrap, newcombe, paired_bootstrap, wilson


@pytest.mark.parametrize(
    ("correct", "total"), [(0, 5), (5, 5), (1, 7), (225, 288), (2267, 2468), (50, 100)]
)
def test_wilson_agrees_with_scipy(correct, total):
    expected = oracle.binomtest(correct, total).proportion_ci(0.95, method="wilson")
    assert wilson(correct, total) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("correct", "total"), [(1, 0), (3, 2), (-1, 2)])
def test_wilson_refuses_what_is_no_share(correct, total):
    with pytest.raises(ValueError):
        wilson(correct, total)


def test_newcombe_gives_the_published_example():
    # Newcombe 1998, table II, case (a), method 10: 56/70 - 48/80
    difference = newcombe(56 / 70, 48 / 80, 70, 80)
    assert difference.value == pytest.approx(0.2)
    assert difference.interval == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert difference.clear


def test_paired_bootstrap_agrees_with_scipy():
    rng = np.random.default_rng(3)
    first = rng.random(200) < 0.8
    second = np.where(rng.random(200) < 0.8, first, rng.random(200) < 0.6)
    ours = paired_bootstrap(first, second)
    theirs = oracle.bootstrap(
        ((first.astype(float) - second.astype(float)),), np.mean, n_resamples=10_000,
        method="percentile", rng=np.random.default_rng(4),
    ).confidence_interval  # fmt: skip
    assert ours.value == pytest.approx(first.mean() - second.mean())
    assert ours.interval == pytest.approx((theirs.low, theirs.high), abs=0.0101)


def test_paired_bootstrap_of_equal_models_is_zero_wide_and_unclear():
    right = np.array([True, False, True])
    difference = paired_bootstrap(right, right)
    assert difference.interval == (0.0, 0.0)
    assert not difference.clear


def test_copies_within_a_family_do_not_narrow_the_interval():
    values = (np.arange(60) % 3 > 0).astype(float)
    alone = grouped_bootstrap(values, np.arange(60))
    copied = grouped_bootstrap(np.repeat(values, 5), np.repeat(np.arange(60), 5))
    assert copied == pytest.approx(alone, abs=1e-9)
    low, high = wilson(40 * 5, 60 * 5)
    assert copied.high - copied.low > 1.8 * (high - low)
