import dataclasses

import numpy as np
import pytest
from scipy import stats

from sa3d.metrics import intervals
from sa3d.report.comparison import difference, estimate, repetition
from sa3d.report.results import Outcomes, RunRecord
from sa3d.report.sections import Comparison, Variant
from sa3d.report.wording import counted, number, signed, span, with_spread
from sa3d.runs.spec import RunSpec
from sa3d.tasks.base import Folds, Metric

ACC = Metric("acc", "accuracy", accuracy=True)
IOU = Metric("acc", "mIoU")
ERROR = Metric("acc", "error", share=False, higher_is_better=False)
APART = Folds(lambda settings: 3, independent=True)
OVERLAPPING = Folds(lambda settings: 3, independent=False)
OURS = Variant("ours", "OURS", "variant0", True, False)
OTHER = Variant("other", "Other", "variant1", False, False)


def run(value, seed=0, fold=None, start="p0", score=None, index=None, family=None, data=None):
    """A finished run; ``start`` names a pre-training, a path ("/…"), or nothing (None)."""
    source = start
    if start is not None and not start.startswith("/"):
        source = RunSpec("pretrain", start, "shapes", 0)
    outcomes = None
    if score is not None:
        score = np.asarray(score, float)
        index = np.arange(len(score)) if index is None else np.asarray(index)
        family = np.arange(len(score)) if family is None else np.asarray(family)
        outcomes = Outcomes(score, index, family, {})
        value = score.mean()
    return RunRecord(
        f"r{seed}{fold}", "evaluate", RunSpec("svm", "ours", "shapes", seed, fold, start=source),
        "finished", metrics={"acc": float(value)}, outcomes=outcomes,
        result={"data": data or {}},
    )  # fmt: skip


RNG = np.random.default_rng(0)
A, B, C, D = (RNG.random(40) < share for share in (0.9, 0.85, 0.7, 0.6))


def test_one_run_with_outcomes_is_what_the_intervals_say():
    found = estimate([run(0, score=A)], ACC)
    assert found == intervals.estimate(A)
    assert "Wilson" in found.how


def test_units_are_paired_by_their_row_in_the_data_set_not_by_their_place():
    shuffled = RNG.permutation(40)
    plain = difference([run(0, score=A)], [run(0, score=C)], ACC)
    moved = difference([run(0, score=A)], [run(0, score=C[shuffled], index=shuffled)], ACC)
    assert plain == moved == intervals.difference(A, C)


def test_runs_are_paired_by_seed():
    ours = [run(0, seed=0, score=A), run(0, seed=1, score=B)]
    other = [run(0, seed=1, score=D), run(0, seed=0, score=C)]
    assert difference(ours, other, ACC) == intervals.difference([A, B], [C, D])


def test_families_reach_the_intervals():
    family = np.arange(40) // 4
    found = estimate([run(0, score=A, family=family)], ACC)
    assert found == intervals.estimate(A, family)
    assert "10 families" in found.how


def test_two_seeds_of_one_pretraining_are_two_runs_but_say_so():
    runs = [run(0, seed=0, score=A), run(0, seed=1, score=B)]
    assert estimate(runs, ACC).interval == intervals.estimate([A, B]).interval
    assert repetition(runs) == "2 runs from one pre-training"


def test_runs_of_several_pretrainings_are_averaged_first():
    runs = [run(0, seed=s, start=f"p{s % 2}", score=x) for s, x in enumerate((A, B, C, D))]
    found = estimate(runs, ACC)
    rows = [(A * 1.0 + C) / 2, (B * 1.0 + D) / 2]
    assert found.interval == intervals.estimate(rows).interval
    assert "spread of 2 pre-trainings" in found.how
    assert found.runs == 4
    assert found.sd == pytest.approx(np.std([x.mean() for x in (A, B, C, D)], ddof=1))
    assert repetition(runs) == "4 runs from 2 pre-trainings"
    # against random weights, which differ in every run: still two pre-trainings
    scratch = [run(0, seed=s, start=None, score=D) for s in range(4)]
    paired = difference(runs, scratch, ACC)
    assert paired.interval == intervals.difference(rows, [D * 1.0, D * 1.0]).interval
    assert repetition(scratch) == "4 runs from 4 draws of random weights"


def test_what_was_repeated_is_said_in_words():
    assert repetition([run(0.5)]) == "one run"
    assert repetition([run(0.5, 0, start="/c"), run(0.5, 1, start="/c")]) == (
        "2 runs from one checkpoint"
    )
    folds = [run(0.5, 0, fold) for fold in range(3)]
    assert repetition(folds) == "3 runs (3 folds) from one pre-training"
    both = [run(0.5, s, f, start=f"p{s}") for s in range(2) for f in range(3)]
    assert repetition(both) == "6 runs (2 seeds, 3 folds) from 2 pre-trainings"


def test_folds_are_paired_one_value_a_fold():
    ours = [run(v, 0, fold) for fold, v in enumerate((0.9, 0.8, 0.85))]
    other = [run(v, 0, fold) for fold, v in enumerate((0.8, 0.75, 0.79))]
    found = difference(ours, other, IOU, APART)
    assert (
        found.interval == intervals.difference_values([0.9, 0.8, 0.85], [0.8, 0.75, 0.79]).interval
    )
    assert found.how == "t interval over 3 matched folds"
    assert estimate(ours, IOU, APART).how == "t interval over 3 folds"


def test_seeds_by_folds_have_a_row_a_seed():
    values = {(s, f): 0.8 + 0.05 * s + 0.02 * f for s in range(2) for f in range(3)}
    runs = [run(v, s, f, start=f"p{s}") for (s, f), v in values.items()]
    found = estimate(runs, IOU, APART)
    table = [[values[s, f] for f in range(3)] for s in range(2)]
    assert found.interval == intervals.estimate(table).interval
    assert found.how == "t interval over 3 folds, joined with the spread of 2 seeds"
    assert estimate(runs[:-1], IOU, APART).how == "no interval: not every seed has every fold"


def test_folds_that_may_overlap_have_a_mean_and_a_spread_and_no_interval():
    ours = [run(v, 0, fold) for fold, v in enumerate((0.9, 0.8, 0.85))]
    other = [run(v, 0, fold) for fold, v in enumerate((0.8, 0.75, 0.79))]
    words = "no interval: folds may test the same clouds, so their spread says too little"
    found = estimate(ours, IOU, OVERLAPPING)
    assert found.mean == pytest.approx(0.85)
    assert found.sd == pytest.approx(0.05)
    assert (found.runs, found.interval, found.how) == (3, None, words)
    compared = difference(ours, other, IOU, OVERLAPPING)
    assert compared.value == pytest.approx(0.07)
    assert (compared.interval, compared.how) == (None, words)
    # folds of the very same clouds are repetitions, and the clouds' own scores say all
    same = [run(0, 0, fold, score=x) for fold, x in enumerate((A, B))]
    assert estimate(same, ACC, OVERLAPPING).interval == intervals.estimate([A, B]).interval


EACH_ITS_OWN = {"test": 10, "test_families": 10}


def test_without_outcomes_only_a_single_accuracy_has_an_interval():
    one, other = run(0.8, data=EACH_ITS_OWN), run(0.3, data=EACH_ITS_OWN)
    assert estimate([one], ACC) == intervals.estimate_share(0.8, 10)
    assert difference([one], [other], ACC) == intervals.unpaired(0.8, 10, 0.3, 10)
    assert estimate([one], IOU).interval is None  # a mean of IoUs is no share of clouds
    assert difference([one], [other], IOU).interval is None
    two = [run(0.8, 0, data=EACH_ITS_OWN), run(0.7, 1, score=A)]
    assert estimate(two, ACC).how == (
        "no interval: the results of single test clouds are missing for 1 of 2 runs"
    )


MISSING = "no interval: the results of single test clouds are missing"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"test": 10, "test_families": 4}, ", and the 10 test clouds come in 4 families"),
        ({"test": 10, "test_families": 1}, ", and the 10 test clouds come in one family"),
        ({"test": 10}, ", and it is not recorded how many families the test clouds come in"),
        ({}, ""),
    ],
)
def test_without_outcomes_clouds_of_families_give_no_interval(data, why):
    """Scores of one family go together: an interval over clouds would be far too narrow."""
    found = estimate([run(0.8, data=data)], ACC)
    assert (found.interval, found.how) == (None, MISSING + why)
    for first, second in ((data, EACH_ITS_OWN), (EACH_ITS_OWN, data)):
        compared = difference([run(0.8, data=first)], [run(0.3, data=second)], ACC)
        assert (compared.interval, compared.how) == (None, f"{MISSING} for 2 of 2 runs{why}")


def test_seeds_that_do_not_match_are_not_paired():
    found = difference([run(0, 0, score=A), run(0, 1, score=B)], [run(0, 2, score=C)], ACC)
    assert found.interval is None
    assert "same seed" in found.how
    assert found.value == pytest.approx((A.mean() + B.mean()) / 2 - C.mean())


def test_seeds_with_other_clouds_each_are_values():
    ours = [run(0, s, score=x, index=np.arange(40) + 40 * s) for s, x in enumerate((A, B))]
    found = estimate(ours, ACC)
    assert found.interval == intervals.estimate_values([A.mean(), B.mean()]).interval


def test_an_error_beyond_one_gets_the_same_t_interval():
    first, second = np.array([12.1, 12.4, 11.9, 12.3]), np.array([13.0, 13.6, 13.1, 13.2])
    ours = [run(v, 0, fold) for fold, v in enumerate(first)]
    other = [run(v, 0, fold) for fold, v in enumerate(second)]
    found = difference(ours, other, ERROR, APART)
    low, high = stats.t.interval(0.95, 3, (first - second).mean(), stats.sem(first - second))
    assert found.interval == pytest.approx((low, high))
    low, high = stats.t.interval(0.95, 3, first.mean(), stats.sem(first))
    assert estimate(ours, ERROR, APART).interval == pytest.approx((low, high))


def words(value, interval, metric, how="how"):
    ends = interval and intervals.Interval(*interval)
    return Comparison(OURS, OTHER, "the other", intervals.Difference(value, ends, how), metric)


def test_words_and_verdict_follow_the_direction_of_the_metric():
    ahead = words(0.014, (0.002, 0.026), ACC)
    assert (
        ahead.words
        == "1.4 points better than the other, more than noise (95 % interval +0.2 to +2.6)"
    )
    assert ahead.verdict == "better"
    behind = words(0.014, (0.002, 0.026), dataclasses.replace(ACC, higher_is_better=False))
    assert behind.words.startswith("1.4 points worse than the other, more than noise")
    assert behind.verdict == "worse"
    less = words(-1.23, (-1.41, -1.02), ERROR)
    assert less.words == (
        "1.23 better than the other, more than noise "
        "(95 % interval −1.41 to −1.02; negative is better)"
    )
    assert less.verdict == "better"
    assert words(-0.01, (-0.03, 0.01), ACC).words.startswith(
        "1.0 points worse than the other, within"
    )
    assert words(0.0004, (-0.03, 0.03), ACC).words.startswith("level with the other, within noise")
    alone = words(0.2, None, ACC, "no interval: one family")
    assert alone.words == "20.0 points better than the other, no interval: one family"
    assert alone.verdict == "unknown"


def test_numbers_as_text():
    assert number(0.7844, ACC) == "78.4 %"
    assert number(0.013123, ERROR) == "0.01312"
    assert span(intervals.Interval(0.7, 0.8), ACC) == "70.0 to 80.0 %"
    assert [signed(v, ACC) for v in (0.012, -0.004, -0.0001)] == ["+1.2", "−0.4", "+0.0"]
    assert with_spread(intervals.Estimate(0.784, 0.008, 3, None, ""), ACC) == "78.4 ± 0.8 %"
    assert with_spread(intervals.Estimate(12.13, 0.1, 3, None, ""), ERROR) == "12.13 ± 0.1"
    assert counted(["C = 1"]) == counted(["C = 1", "C = 1"]) == "C = 1"
    assert counted(list("aaabbcd")) == "a (3 runs), b (2 runs), c (1 run) and 1 other"
