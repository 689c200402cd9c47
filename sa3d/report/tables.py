"""The tables of the report, as text: the page and the Markdown show the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sa3d.metrics.intervals import Estimate, Interval
from sa3d.report.comparison import place, repetition, start_of
from sa3d.report.results import Experiment, RunRecord
from sa3d.report.sections import LEVEL, Section, Variant, VariantRuns
from sa3d.report.wording import counted, number, numbered, plural, span, with_spread
from sa3d.tasks.base import Metric, Task
from sa3d.utils.text import without_log


@dataclass(frozen=True)
class Row:
    """One variant in the table of an evaluation; empty texts are left out.

    Attributes:
        variant: which.
        value: mean and standard deviation of the metric.
        repeated: how many runs that are, and from how many pre-trainings.
        interval: at 95 %.
        how: the interval was made, or why there is none.
        compared, compared_how: what the reference is, compared with it; how that was found.
        choice: what selection arrived at.
        extras: further metrics.
        missing: runs without a number, and why.
    """

    variant: Variant
    value: str
    repeated: str
    interval: str
    how: str
    compared: str
    compared_how: str
    choice: str
    extras: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]


def rows_of(section: Section) -> list[Row]:
    """The table of an evaluation, the reference first."""
    return [_row(section, each) for each in section.variants]


def _row(section: Section, each: VariantRuns) -> Row:
    found, metric = each.estimate, section.metric
    numbered = [run for run in each.runs if run.value(metric) is not None]
    compared = section.compared(each.variant)
    return Row(
        variant=each.variant,
        value="" if found is None else with_spread(found, metric),
        repeated=_repeated(numbered, found, metric) if numbered else "",
        interval="" if found is None or found.interval is None else span(found.interval, metric),
        how="" if found is None else found.how,
        compared="" if compared is None else compared.words,
        compared_how=""
        if compared is None or compared.difference.interval is None
        else compared.difference.how,
        choice=_choice(section.task, numbered),
        extras=tuple(_extras(section.task.extras, numbered)),
        missing=_missing(each, metric),
    )


def _repeated(runs: Sequence[RunRecord], found: Estimate | None, metric: Metric) -> str:
    """How often; and where all runs have the same number, what was repeated at all."""
    text = repetition(runs)
    if found is None or not _alike(found, metric):
        return text
    if len({start_of(run) for run in runs}) == 1:
        return f"{text}: another seed of the evaluation alone changes less than is shown"
    return f"{text}, which differ by less than is shown"


def _alike(found: Estimate, metric: Metric) -> bool:
    """Whether the standard deviation over runs is printed as 0."""
    return found.sd is not None and (found.sd == 0 or (metric.share and found.sd < LEVEL))


def _choice(task: Task, runs: Sequence[RunRecord]) -> str:
    if task.choice is None:
        return ""
    words = []
    for run in runs:
        try:
            words.append(task.choice(dict(run.protocol)))
        except (KeyError, TypeError, ValueError):
            words.append("not recorded")
    return counted(words)


def _extras(extras: Sequence[Metric], runs: Sequence[RunRecord]) -> list[tuple[str, str]]:
    found = []
    for extra in extras:
        values = [value for value in (run.value(extra) for run in runs) if value is not None]
        if values:
            found.append((extra.label, number(float(np.mean(values)), extra)))
    return found


def _missing(each: VariantRuns, metric: Metric) -> tuple[str, ...]:
    if not each.runs:
        return ("absent: results.json has no run of it",)
    alike: dict[tuple[str, str], list[RunRecord]] = defaultdict(list)
    for run in each.runs:
        if run.value(metric) is None:
            reason = run.reason or ("no possible value" if run.finished else "no reason recorded")
            alike[run.state, without_log(reason)].append(run)
    return tuple(_ended_alike(state, reason, runs) for (state, reason), runs in alike.items())


def _ended_alike(state: str, reason: str, runs: Sequence[RunRecord]) -> str:
    """``seed 0 failed: REASON``, or ``3 runs failed (seed 0, folds 0 to 2): REASON``.

    Where the log of a single run is stands in the table of what ran.
    """
    folds: dict[int, list[int]] = defaultdict(list)
    for run in runs:
        seed, fold = place(run)
        folds[seed] += [] if fold is None else [fold]
    seeds: dict[str, list[int]] = defaultdict(list)  # those of the same folds
    for seed, numbers in folds.items():
        seeds[f", {numbered('fold', numbers)}" if numbers else ""].append(seed)
    which = "; ".join(f"{numbered('seed', own)}{tail}" for tail, own in seeds.items())
    if len(runs) == 1:
        return f"{which} {state}: {reason}"
    return f"{plural(len(runs), 'run')} {state} ({which}): {reason}"


@dataclass(frozen=True)
class Cell:
    """One variant in the table of all evaluations."""

    label: str
    value: str
    note: str  # how the variant stands against the reference, or why there is no number


@dataclass(frozen=True)
class Line:
    """One evaluation in the table of all evaluations."""

    key: str
    name: str
    metric: str
    cells: tuple[Cell, ...]


def metric_label(metric: Metric) -> str:
    """``accuracy``; ``Chamfer distance, lower is better``."""
    return metric.label if metric.higher_is_better else f"{metric.label}, lower is better"


def summary(sections: Sequence[Section], variants: Sequence[Variant]) -> list[Line]:
    """All evaluations by all variants."""
    return [
        Line(
            section.key,
            section.name,
            metric_label(section.metric),
            tuple(_cell(section, variant) for variant in variants),
        )
        for section in sections
    ]


def _cell(section: Section, variant: Variant) -> Cell:
    each = next((row for row in section.variants if row.variant == variant), None)
    if each is None:
        return Cell(variant.label, "—", "not part of it")
    if each.estimate is None:
        return Cell(variant.label, "—", each.state)
    value = with_spread(each.estimate, section.metric)
    compared = section.compared(variant)
    if compared is None:
        note = "reference" if variant.reference else "not compared"
    else:
        # the comparison speaks of the reference, the cell of the other variant
        turned = {
            "better": "clearly worse",
            "worse": "clearly better",
            "unclear": "not clear",
            "unknown": "no interval",
        }
        note = turned[compared.verdict]
    if _alike(each.estimate, section.metric):
        note += f"; {each.estimate.runs} runs, all alike"
    without = len(each.runs) - each.estimate.runs
    if without:
        note += f"; {plural(without, 'run')} missing"
    return Cell(variant.label, value, note)


def metrics(experiment: Experiment, sections: Sequence[Section]) -> dict[str, Any]:
    """Small nested numbers for ``dvc metrics``, with five digits.

    Under each evaluation and variant the mean; under the reference, in ``minus``, also its mean
    minus that of every other variant.
    """
    tree: dict[str, Any] = {}
    for section in sections:
        branch: dict[str, Any] = {}
        for each in section.with_numbers:
            assert each.estimate is not None
            leaf: dict[str, Any] = {"mean": _digits(each.estimate.mean)}
            if each.estimate.sd is not None:
                leaf["sd"] = _digits(each.estimate.sd)
            leaf |= _ends(each.estimate.interval) | {"runs": each.estimate.runs}
            branch[each.variant.name] = leaf
        for compared in section.comparisons:
            gap = {"value": _digits(compared.difference.value)}
            minus = branch[compared.first.name].setdefault("minus", {})
            minus[compared.second.name] = gap | _ends(compared.difference.interval)
        if branch:
            tree[section.name] = branch
    finished = sum(run.finished for run in experiment.runs.values())
    tree["nodes"] = {"finished": finished, "unfinished": len(experiment.runs) - finished}
    return tree


def _ends(interval: Interval | None) -> dict[str, float]:
    return {} if interval is None else {k: _digits(v) for k, v in interval._asdict().items()}


def _digits(value: float) -> float:
    return float(f"{value:.5g}")
