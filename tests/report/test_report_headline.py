"""The verdict at the top of the page: which variant is clearly better than which, on what."""

import pytest
from invented import config

from sa3d import registry
from sa3d.metrics.intervals import Difference, Estimate, Interval
from sa3d.report.headline import headline
from sa3d.report.results import Experiment, RunRecord
from sa3d.report.sections import Comparison, Section, VariantRuns, variants_of

BETTER, WORSE, UNCLEAR, NO_INTERVAL = (0.1, 0.3), (-0.3, -0.1), (-0.1, 0.3), None
NAMES = ("sa3df", "random-masks", "scratch")


DESCRIPTION = "An invented experiment"  # how the next sentence begins


def verdict(*evaluations, names=NAMES):
    """Of evaluations svm-d0, svm-d1, …, each with an interval for every other variant: the verdict
    and what is said of the other comparisons."""
    settings = config(
        evaluations=[{"task": "svm", "data": f"d{n}"} for n in range(len(evaluations))],
        variants=names,
    )
    variants = list(variants_of(settings).values())
    task = registry.task("svm")
    sections = []
    for evaluation, ends in zip(settings.evaluate, evaluations, strict=True):
        comparisons = [
            Comparison(
                variants[0], other, other.label,
                Difference(sum(e) / 2 if e else 0.2, e and Interval(*e), ""), task.metric,
            )
            for other, e in zip(variants[1:], ends, strict=True)
        ]  # fmt: skip
        rows = tuple(VariantRuns(v, (), Estimate(0.5, None, 1, None, "")) for v in variants)
        sections.append(Section(evaluation.name, evaluation, task, rows, tuple(comparisons)))
    found = headline(Experiment(settings, {}, {}), sections)
    others, _, _ = found.detail.partition(DESCRIPTION)
    return f"{found.verdict} {others}".strip()


@pytest.mark.parametrize(
    ("evaluations", "said"),
    [
        (
            [(BETTER, BETTER)],
            "SA3DF is clearly better than random-masks and scratch on svm-d0.",
        ),
        (
            [(BETTER, BETTER)] * 3,
            "SA3DF is clearly better than random-masks and scratch on all 3 evaluations.",
        ),
        (
            [(WORSE, BETTER), (UNCLEAR, BETTER), (UNCLEAR, BETTER)],
            "SA3DF is clearly better than scratch on all 3 evaluations and clearly worse than "
            "random-masks on svm-d0. In 2 other comparisons nothing is beyond noise.",
        ),
        (
            [(UNCLEAR, BETTER)],
            "SA3DF is clearly better than scratch on svm-d0. Against random-masks on svm-d0 "
            "nothing is beyond noise.",
        ),
        (
            [(UNCLEAR, UNCLEAR)] * 3,
            "No difference beyond noise between SA3DF and random-masks or scratch on any of 3 "
            "evaluations.",
        ),
        (
            [(UNCLEAR, NO_INTERVAL)] * 3,
            "No difference beyond noise between SA3DF and random-masks on any of 3 evaluations; in "
            "3 other comparisons no interval tells differences from noise.",
        ),
        (
            [(UNCLEAR, UNCLEAR), (NO_INTERVAL, UNCLEAR)],
            "No difference beyond noise between SA3DF and random-masks or scratch on svm-d0 and "
            "svm-d1; in 1 other comparison no interval tells differences from noise.",
        ),
        (
            [(NO_INTERVAL, NO_INTERVAL)] * 2,
            "SA3DF is compared with random-masks and scratch, but no interval tells differences "
            "from noise.",
        ),
        (
            [(UNCLEAR, BETTER), (NO_INTERVAL, BETTER), (UNCLEAR, NO_INTERVAL)],
            "SA3DF is clearly better than scratch on svm-d0 and svm-d1. In 2 other comparisons "
            "nothing is beyond noise; in 2 other comparisons no interval tells differences from "
            "noise.",
        ),
        (
            [(BETTER, NO_INTERVAL)],
            "SA3DF is clearly better than random-masks on svm-d0. Against scratch on svm-d0 no "
            "interval tells differences from noise.",
        ),
        (
            [(BETTER, UNCLEAR)] * 3 + [(UNCLEAR, UNCLEAR)],
            "SA3DF is clearly better than random-masks on 3 of 4 evaluations. In 5 other "
            "comparisons nothing is beyond noise.",
        ),
    ],
)
def test_the_verdict_in_words(evaluations, said):
    assert verdict(*evaluations) == said


def test_a_verdict_of_too_many_words_is_given_in_numbers():
    names = ("sa3df", "random-masks", "sa3d", "sa3df-deep", "blocks", "published", "scratch")
    ends = (BETTER, WORSE, UNCLEAR)
    evaluations = [tuple(ends[(n * n + k) % 3] for k in range(6)) for n in range(8)]
    flat = [e for row in evaluations for e in row]
    said = verdict(*evaluations, names=names)
    assert said == (
        f"SA3DF (sa3df) is clearly better in {flat.count(BETTER)} and clearly worse in "
        f"{flat.count(WORSE)} of 48 comparisons on 8 evaluations."
    )


def test_comparisons_without_an_interval_are_not_counted_as_draws():
    names = ("sa3df", "random-masks", "sa3d", "sa3df-deep", "blocks", "published", "scratch")
    ends = (BETTER, WORSE, NO_INTERVAL)
    evaluations = [tuple(ends[(n * n + k) % 3] for k in range(6)) for n in range(8)]
    flat = [e for row in evaluations for e in row]
    assert verdict(*evaluations, names=names) == (
        f"SA3DF (sa3df) is clearly better in {flat.count(BETTER)} and clearly worse in "
        f"{flat.count(WORSE)} of {48 - flat.count(None)} comparisons on 8 evaluations; in "
        f"{flat.count(None)} other comparisons no interval tells differences from noise."
    )


def test_pretraining_alone_and_nothing_at_all_are_told_apart():
    settings = config(evaluations=())
    done = RunRecord("p", "pretrain", None, "finished")
    assert headline(Experiment(settings, {"p": done}, {}), []).verdict == (
        "Pre-training alone: 1 run finished, nothing was evaluated."
    )
    assert headline(Experiment(settings, {}, {}), []).verdict == (
        "No run finished: there is no result to report."
    )
