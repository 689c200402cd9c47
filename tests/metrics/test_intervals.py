import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sa3d.metrics.intervals import (
    difference,
    difference_values,
    estimate,
    estimate_share,
    estimate_values,
    unpaired,
)


def paired(wins, losses, total):
    """Two models of which only the first is right on ``wins`` clouds, the second on ``losses``."""
    first, second = np.zeros((2, total))
    first[:wins] = 1.0
    second[wins : wins + losses] = 1.0
    return first, second


# independent clouds, one run


@pytest.mark.parametrize(("correct", "total"), [(0, 5), (5, 5), (1, 7), (225, 288), (50, 100)])
def test_one_run_on_independent_clouds_has_the_wilson_interval(correct, total):
    expected = stats.binomtest(correct, total).proportion_ci(0.95, method="wilson")
    scores = np.arange(total) < correct
    for family in (None, np.arange(total)):
        result = estimate(scores, family)
        assert result.interval == pytest.approx((expected.low, expected.high), abs=1e-12)
        assert (result.mean, result.sd, result.runs) == (correct / total, None, 1)
        assert result.how == f"Wilson interval over {total} clouds"
    assert estimate_share(correct / total, total) == result


def test_wilson_agrees_with_its_formula():
    # (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n) with p = 0.5, n = 4, z = 1.96
    z2 = 1.959963984540054**2
    half = (z2 * (0.25 / 4 + z2 / 64)) ** 0.5 / (1 + z2 / 4)
    assert estimate([1, 0, 0, 1]).interval == pytest.approx((0.5 - half, 0.5 + half))


@pytest.mark.parametrize("total", [50, 400])
def test_the_verdict_is_that_of_mcnemars_exact_test(total):
    for wins in range(26):
        for losses in range(26):
            if wins + losses == 0 or wins + losses > total:
                continue
            test = stats.binomtest(wins, wins + losses).pvalue
            result = difference(*paired(wins, losses, total))
            interval = result.interval
            assert result.clear == (not interval.holds(0.0)) == (test < 0.05), (wins, losses)
            assert interval.holds((wins - losses) / total)
            assert -1.0 <= interval.low < interval.high <= 1.0


def test_four_to_none_is_noise_and_six_to_none_is_more():
    assert not difference(*paired(4, 0, 100)).clear
    six = difference(*paired(6, 0, 100))
    assert six.clear
    assert six.value == pytest.approx(0.06)
    assert six.how == "exact McNemar interval over 100 clouds"


@pytest.mark.parametrize(
    ("wins", "losses", "total"), [(9, 2, 161), (12, 14, 40), (5, 0, 5), (0, 7, 30), (1, 30, 31)]
)
def test_the_mcnemar_interval_agrees_with_drawing_from_its_two_distributions(wins, losses, total):
    rng = np.random.default_rng(0)
    draws, differ = 400_000, wins + losses

    def beta(a, b):
        return rng.beta(a, b, draws) if a and b else np.full(draws, float(b == 0))

    few, many = beta(differ, total - differ + 1), beta(differ + 1, total - differ)
    low = 2 * beta(wins, losses + 1) - 1
    high = 2 * beta(wins + 1, losses) - 1
    expected = (
        min(np.quantile(share * low, 0.025) for share in (few, many)),
        max(np.quantile(share * high, 0.975) for share in (few, many)),
    )
    result = difference(*paired(wins, losses, total))
    assert result.interval == pytest.approx(expected, abs=3e-3)


def test_the_mcnemar_interval_covers_at_least_what_it_claims():
    # every outcome of 20 pairs, weighed by its probability: no simulation
    total = 20
    counts = [(b, c) for b in range(total + 1) for c in range(total + 1 - b)]
    none = (0.0, 0.0)  # no interval: counted as covering the value 0 alone
    ends = np.array([difference(*paired(b, c, total)).interval or none for b, c in counts])
    for differ in (0.1, 0.3, 0.6, 0.95):
        for share in (0.5, 0.7, 0.95, 1.0):
            p = [differ * share, differ * (1 - share), 1 - differ]
            weights = stats.multinomial(total, p).pmf([(b, c, total - b - c) for b, c in counts])
            silent = weights[counts.index((0, 0))]
            value = p[0] - p[1]
            inside = (ends[:, 0] <= value) & (value <= ends[:, 1])
            wrong = weights[~inside].sum() - (silent if value else 0.0)
            assert wrong <= 0.0501


# other independent scores, and values per run


def test_scores_between_0_and_1_have_a_t_interval():
    rng = np.random.default_rng(1)
    first, second = rng.random((2, 40))
    expected = stats.ttest_1samp(first, 0).confidence_interval(0.95)
    assert estimate(first).interval == pytest.approx((expected.low, expected.high))
    assert estimate(first).how == "t interval over 40 clouds"
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert difference(first, second).interval == pytest.approx((expected.low, expected.high))


def test_values_of_runs_without_common_clouds_have_t_intervals():
    first, second = [0.91, 0.88, 0.95, 0.90], [0.90, 0.86, 0.92, 0.90]
    expected = stats.ttest_1samp(first, 0).confidence_interval(0.95)
    one = estimate_values(first)
    assert one.interval == pytest.approx((expected.low, expected.high))
    assert (one.mean, one.sd, one.runs) == pytest.approx((0.91, np.std(first, ddof=1), 4))
    assert one.how == "t interval over 4 runs"
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    both = difference_values(first, second)
    assert both.interval == pytest.approx((expected.low, expected.high))
    assert both.how == "t interval over 4 matched runs"
    assert both.clear == (stats.ttest_rel(first, second).pvalue < 0.05)


def test_a_t_interval_ends_where_scores_end():
    assert estimate_values([0.9, 1.0]).interval.high == 1.0
    assert estimate_values([0.0, 0.1]).interval.low == 0.0
    assert difference_values([1.0, 0.9], [0.0, 0.2]).interval.high == 1.0


def test_accuracies_alone_are_compared_by_newcombes_method():
    # Newcombe 1998, table II, case (a), method 10: 56/70 - 48/80
    result = unpaired(56 / 70, 70, 48 / 80, 80)
    assert result.value == pytest.approx(0.2)
    assert result.interval == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert result.clear


def test_a_rounded_accuracy_means_the_nearest_count():
    assert estimate_share(0.7813, 288).interval == estimate_share(225 / 288, 288).interval


# families


def test_the_interval_of_families_is_the_sign_flip_test_turned_round():
    rng = np.random.default_rng(2)
    sizes = np.array([30, 25, 9, 6, 4, 3, 2, 1])
    family = np.repeat(np.arange(8), sizes)
    scores = rng.random(len(family)) < rng.random(8)[family]
    totals = np.bincount(family, weights=scores)
    signs = 1 - 2 * ((np.arange(256)[:, None] >> np.arange(8)) & 1)
    interval = estimate(scores, family).interval
    for mean in np.linspace(0, 1, 997):
        deviations = totals - mean * sizes
        sums = np.abs(signs @ deviations)
        p = (sums >= abs(deviations.sum()) - 1e-9).mean()
        assert interval.holds(mean) == (p > 0.03)


def test_copies_within_a_family_do_not_narrow_the_interval():
    values = (np.arange(60) % 3 > 0).astype(float)
    copied = estimate(np.repeat(values, 5), np.repeat(np.arange(60), 5))
    twice = estimate(np.repeat(values, 10), np.repeat(np.arange(60), 10))
    assert copied.interval == pytest.approx(twice.interval)
    low, high = estimate(np.repeat(values, 5)).interval
    assert copied.interval.high - copied.interval.low > 1.8 * (high - low)
    assert copied.how == "half-samples of 60 families"


# no claim


def test_nothing_is_claimed_where_nothing_can_be():
    right, family = np.ones(12), np.repeat(np.arange(4), 3)
    eight = np.repeat(np.arange(8), 3)
    rng = np.random.default_rng(3)
    some = (rng.random(24) < 0.5).astype(float)
    cases = {
        "no interval: one family, too few for a claim": estimate(some, np.zeros(24)),
        "no interval: 4 families, too few for a claim": estimate(right, family),
        "no interval: 8 families, all with the same mean": estimate(np.ones(24), eight),
        "no interval: both agree on all 24 clouds": difference(some, some),
        "no interval: a single value (clouds) tells no spread": estimate([0.3]),
        "no interval: a single value (runs) tells no spread": estimate_values([0.3]),
        "no interval: 3 runs, all with the same value": estimate_values([0.3] * 3),
        "no interval: 5 clouds, all with the same value": estimate([0.3] * 5),
        "no interval: 2 matched runs, all with the same value": difference_values([1, 0], [1, 0]),
    }
    for how, result in cases.items():
        assert result.interval is None
        assert result.how == how
    assert estimate(np.zeros(24), eight).interval is None
    assert not difference(some, some, eight).clear


def test_differences_that_are_equal_but_for_rounding_make_no_claim():
    first, second = np.arange(2, 10) / 10, np.arange(1, 9) / 10
    assert np.ptp(first - second) > 0.0
    assert difference(first, second).interval is None
    assert difference_values(list(first), list(second)).interval is None
    family = np.repeat(np.arange(8), 3)
    assert difference(np.repeat(first, 3), np.repeat(second, 3), family).interval is None
    assert estimate(np.full(24, 0.1), family).interval is None


def test_seven_families_are_the_fewest_for_a_claim():
    scores = np.tile([1.0, 0.0, 1.0, 1.0], 7)
    scores[:8] = 0.0
    family = np.repeat(np.arange(7), 4)
    assert estimate(scores[:24], family[:24]).interval is None
    assert estimate(scores, family).interval is not None


def test_families_that_differ_in_one_direction_are_clear_from_seven_on():
    family = np.repeat(np.arange(20), 2)
    for ahead, clear in [(5, False), (8, True)]:
        first = np.repeat(np.arange(20) < ahead, 2).astype(float)
        assert difference(first, np.zeros(40), family).clear == clear


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: estimate([0.2, 1.2]),
        lambda: estimate([0.2, np.nan]),
        lambda: estimate(np.zeros((0, 3))),
        lambda: estimate(np.zeros((2, 2, 2))),
        lambda: estimate([0.0, 1.0], np.arange(3)),
        lambda: difference([0.0, 1.0], [0.0, 1.0, 1.0]),
        lambda: difference(np.zeros((2, 4)), np.zeros((3, 4))),
        lambda: estimate_values([]),
        lambda: estimate_values([[0.1, 0.2]]),
        lambda: difference_values([0.1, 0.2], [0.1]),
        lambda: estimate_share(1.1, 5),
        lambda: unpaired(0.5, 5, 0.5, 0),
    ],
)
def test_what_is_no_score_is_refused(wrong):
    with pytest.raises(ValueError):
        wrong()


# several runs


def test_the_spread_of_runs_widens_the_interval():
    family = np.repeat(np.arange(30), 10)
    right = np.tile(np.repeat((np.arange(30) % 3 > 0).astype(float), 10), (4, 1))
    lost = np.flatnonzero(right[0])[::5]  # 40 clouds that one of the four runs gets wrong
    even, uneven = right.copy(), right.copy()
    even[np.arange(40) % 4, lost] = 0.0
    uneven[0, lost] = 0.0
    level, spread = estimate(even, family), estimate(uneven, family)
    assert level.mean == spread.mean == pytest.approx(200 / 300 - 10 / 300)
    assert (level.sd, level.runs) == (0.0, 4)
    assert spread.sd == pytest.approx(uneven.mean(axis=1).std(ddof=1))
    assert spread.how == "half-samples of 30 families, joined with the spread of 4 runs"
    assert level.interval == estimate(even.mean(axis=0), family).interval
    # three degrees of freedom: the runs alone would need 3.18 standard errors either way
    error = spread.sd / 2
    for wide, narrow in [
        (spread.mean - spread.interval.low, level.mean - level.interval.low),
        (spread.interval.high - spread.mean, level.interval.high - level.mean),
    ]:
        assert np.hypot(narrow, 2.17 * error) < wide < np.hypot(narrow, 5.0 * error)


def test_a_run_repeated_is_no_further_evidence():
    first, second = paired(6, 0, 50)
    one, three = difference(first, second), difference([first] * 3, [second] * 3)
    assert one.interval == three.interval
    assert three.how == f"{one.how}; the 3 runs agree on every cloud"
    assert estimate([first] * 3).interval == estimate(first).interval
    assert estimate([first] * 3).sd == 0.0


# properties


@st.composite
def cases(draw):
    clouds, runs = draw(st.integers(1, 30)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape, levels = (runs, clouds), draw(st.sampled_from([1, 4]))
    first, second = rng.integers(0, levels + 1, (2, *shape)) / levels
    family = draw(st.sampled_from([None, rng.integers(0, draw(st.integers(1, 25)), clouds)]))
    return first, second, family, rng.permutation(clouds)


@settings(deadline=None, max_examples=150)
@given(cases())
def test_intervals_keep_their_limits_and_hold_the_value(case):
    first, second, family, _ = case
    one, both = estimate(first, family), difference(first, second, family)
    for value, interval, low in [(one.mean, one.interval, 0.0), (both.value, both.interval, -1.0)]:
        if interval is not None:
            assert low <= interval.low < interval.high <= 1.0
            assert interval.low - 1e-12 <= value <= interval.high + 1e-12


@settings(deadline=None, max_examples=150)
@given(cases())
def test_changing_places_turns_the_difference_round(case):
    first, second, family, _ = case
    there, back = difference(first, second, family), difference(second, first, family)
    assert there.value == -back.value
    assert there.clear == back.clear
    assert there.how == back.how
    if there.interval is not None:
        assert there.interval == pytest.approx((-back.interval.high, -back.interval.low))


@settings(deadline=None, max_examples=150)
@given(cases())
def test_the_order_of_clouds_does_not_matter(case):
    first, second, family, order = case
    moved = None if family is None else family[order]
    for here, there in [
        (estimate(first, family), estimate(first[:, order], moved)),
        (
            difference(first, second, family),
            difference(first[:, order], second[:, order], moved),
        ),
    ]:
        assert here.how == there.how
        if here.interval is not None:
            assert here.interval == pytest.approx(there.interval, abs=1e-9)


# practice


def test_results_are_the_same_every_time():
    first, second = np.random.default_rng(6).random((2, 5, 300)).round()
    family = np.repeat(np.arange(60), 5)
    assert difference(first, second, family) == difference(first, second, family)


def test_it_needs_no_torch():
    code = "import sys, sa3d.metrics.intervals; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
