"""What few-shot classification shows beside its numbers; named in its task's ``figures``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sa3d.report.comparison import spec_of
from sa3d.report.figures import Chart, chart
from sa3d.report.sections import Section, VariantRuns
from sa3d.report.wording import listed, plural, signed
from sa3d.tasks.base import Metric
from sa3d.viz import folds, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sa3d.viz.style import Palette


def folds_chart(section: Section) -> list[Chart]:
    """Every episode by itself: variants are compared on the same clouds there."""
    items = [
        folds.Folds(each.variant.label, each.variant.role, values)
        for each in section.with_numbers
        if (values := of_folds(each, section.metric))
    ]
    if max((len(item.values) for item in items), default=0) < 2:
        return []

    def make(palette: Palette, width: float = 7.2) -> Figure:
        return folds.folds(
            items, palette, x_label="episode", width=width,
            show=lambda value: f"{value * 100:.1f}", tick=lambda value: f"{value * 100:.4g} %",
        )  # fmt: skip

    title = "Accuracy of each episode"
    told = (_seeds(section), _spread(items), _pairs(items, section.metric))
    caption = " ".join(filter(None, told))
    key = f"{section.key}-folds"
    drawn = chart(key, title, caption, make, wide=True)
    narrow = style.svg(make(style.THEMED, 4.3), f"{title}. {caption}", f"{key}-phone")
    return [replace(drawn, phone=narrow)]


def of_folds(each: VariantRuns, metric: Metric) -> dict[int, float]:
    """The metric by fold, each the mean over the seeds that have it."""
    found: dict[int, list[float]] = {}
    for run in each.runs:
        value, fold = run.value(metric), spec_of(run).fold
        if value is not None and fold is not None:
            found.setdefault(fold, []).append(value)
    return {fold: float(np.mean(found[fold])) for fold in sorted(found)}


def _seeds(section: Section) -> str:
    text = "Dots of one column are tested on the same clouds, squares are means"
    several = len(section.evaluation.seeds) > 1
    return text + ("; each dot is the mean over seeds." if several else ".")


def _spread(items: list[folds.Folds]) -> str:
    """Both standard deviations, of the variants that have two folds or more."""
    known = [(item.label, list(item.values.values())) for item in items if len(item.values) > 1]
    words = [f"{label} {np.std(values) * 100:.1f}" for label, values in known]
    return (
        "Bars are the standard deviation over episodes, that of a sample (divided by n − 1), as is "
        "± in the table, which is over all runs. Divided by n, as published tables probably do, it "
        f"is {listed(words)}."
    )


def _pairs(items: list[folds.Folds], metric: Metric) -> str:
    """The first variant against each other one, episode by episode."""
    first, *others = items
    clauses = []
    for other in others:
        both = [fold for fold in first.values if fold in other.values]
        if not both:
            continue
        gaps = np.array([first.values[fold] - other.values[fold] for fold in both])
        level = int((gaps == 0).sum())
        text = f"{other.label} in {int((gaps > 0).sum())} of {plural(len(both), 'episode')}"
        text += f" (level in {level})" if level else ""
        clauses.append(f"{text}, by {signed(float(gaps.mean()), metric)} points on average")
    return f"{first.label} is ahead of {'; of '.join(clauses)}." if clauses else ""
