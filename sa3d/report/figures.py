"""Charts as the report and the tasks' own figures use them: drawn for the page and as a file."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sa3d.report.results import RunRecord
from sa3d.report.sections import Section, Variant
from sa3d.report.tables import metric_label
from sa3d.report.wording import listed, number, percent
from sa3d.viz import charts, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sa3d.viz.style import Palette

Numbers = NDArray[np.float64]
STEEP = 0.04  # share of the readings of a curve that may lie below a cropped axis
FEWEST = 8  # epochs; of fewer, means would leave nothing of a curve


@dataclass(frozen=True)
class Chart:
    """A chart: for the page as SVG, for ``figures/`` as PNG.

    Attributes:
        key: its file name without the ending; unique in the report.
        title, caption: above and below it.
        svg, png: the drawing.
        wide: it takes a whole line of the page.
        phone: another drawing for narrow screens, where shrinking would not do.
    """

    key: str
    title: str
    caption: str
    svg: str
    png: bytes
    wide: bool = False
    phone: str = ""

    @property
    def height(self) -> float:
        """Of the drawing, in widths of it."""
        box = re.search(r'viewBox="[\d.-]+ [\d.-]+ ([\d.]+) ([\d.]+)"', self.svg)
        return 1.0 if box is None else float(box[2]) / float(box[1])


def chart(
    key: str, title: str, caption: str, make: Callable[[Palette], Figure], *, wide: bool = False
) -> Chart:
    """Draw one chart for both uses; call inside ``style.context()``."""
    drawing = style.svg(make(style.THEMED), f"{title}. {caption}", key)
    return Chart(key, title, caption, drawing, style.png(make(style.LIGHT)), wide)


def results_chart(section: Section) -> Chart | None:
    """Means with intervals of all variants of an evaluation."""
    if not section.with_numbers:
        return None
    metric = section.metric
    items = []
    for each in section.variants:
        found = each.estimate
        low, high = (found.interval if found else None) or (None, None)
        mean = None if found is None else found.mean
        items.append(charts.Dot(each.variant.label, each.variant.role, mean, low, high, each.state))
    limits = (0.0, 1.0) if metric.share else (-math.inf, math.inf)
    marks = _near(section.floors, items)

    def make(palette: Palette, width: float = 7.2) -> Figure:
        return charts.dots(
            items, marks, palette, show=lambda value: number(value, metric),
            tick=_percent_tick if metric.share else "{:.4g}".format, limits=limits, width=width,
        )  # fmt: skip

    title = metric_label(metric)
    title = f"{title[:1].upper()}{title[1:]}"
    caption = "Means; bars are 95 % intervals, where one can be given."
    caption += f" {section.scale}" if section.scale else ""
    key = f"{section.key}-results"
    drawn = chart(key, title, caption, make, wide=True)
    return replace(
        drawn, phone=style.svg(make(style.THEMED, 4.3), f"{title}. {caption}", f"{key}-phone")
    )


def _near(
    marks: Sequence[tuple[str, float]], items: Sequence[charts.Dot]
) -> list[tuple[str, float]]:
    """The marks that are no farther from the dots than these are from each other.

    A far one would press all dots together; the caption tells it all the same.
    """
    ends = [end for item in items for end in (item.value, item.low, item.high) if end is not None]
    reach = max(ends) - min(ends)
    return [mark for mark in marks if min(ends) - reach <= mark[1] <= max(ends) + reach]


def _percent_tick(value: float) -> str:
    return f"{value * 100:.4g} %"


class Trained(NamedTuple):
    """The runs of one variant whose curves are drawn, one a seed, and their epochs if known."""

    variant: Variant
    runs: Sequence[RunRecord]
    epochs: int | None


def curve(
    key: str,
    title: str,
    caption: str,
    metric: str,
    trained: Sequence[Trained],
    *,
    ends: bool = True,
    percentage: bool = False,
    log: bool = False,
    line: tuple[str, float] | None = None,
    official: Sequence[Official] = (),
    wide: bool = False,
    crop: bool = False,
    **options: Any,
) -> Chart | None:
    """One metric over training, a line a run; several runs of a variant are thin lines.

    Args:
        metric: its name in the journals.
        official: curves to draw ours over, which takes epochs on the axis.
        wide: it takes a whole line of the page.
        crop: the axis may begin above the first steep epochs.
        ends: whether the caption ends with the last values.
        percentage: whether it is a share, shown in per cent.
        options: of :func:`sa3d.viz.charts.curves`.

    Returns:
        None if no journal has at least two values of it.
    """
    found = [
        (each, run, points)
        for each in trained
        for run in each.runs
        if (points := _points(run, metric)) is not None
    ]
    if not found:
        return None
    rates = [_steps_per_epoch(run, each.epochs) for each, run, _ in found]
    # one axis for all: epochs only where every run tells its own
    in_epochs = [rate for rate in rates if rate is not None]
    epochs = len(in_epochs) == len(found)
    series: list[charts.Series] = []
    last: dict[str, list[float]] = {}
    for place, (each, run, (x, y)) in enumerate(found):
        same = [run for other, run, _ in found if other is each]
        if epochs:
            x = x / in_epochs[place]
            if not options.get("steps"):
                x, y = by_epoch(x, y)
        series.append(
            charts.Series(
                label=each.variant.label if run is same[0] else "",
                role=each.variant.role,
                x=x,
                y=y,
                thin=len(same) > 1,
            )
        )
        last.setdefault(each.variant.label, []).append(_last(y, bool(options.get("steps"))))
    if ends:
        show = percent if percentage else "{:.3g}".format
        words = [
            f"{label} {show(float(np.mean(values)))}"
            + (f" (mean of {len(values)} seeds)" if len(values) > 1 else "")
            for label, values in last.items()
        ]
        caption += f" At the end: {', '.join(words)}."
    if any(of > 1 for _, of in charts.turns(series)):
        caption += " Where lines coincide, their colours take turns."
    if official and not epochs:
        caption += f" Not drawn: {listed([each.name for each in official])}, as a run did not "
        caption += "finish and its steps cannot be told in epochs."
    elif official:
        theirs, said = behind(official)
        series += theirs
        caption += f" {said}"
    if crop:
        options["floor"], cut = cropped(series)
        caption += cut
    log = log and all((item.y > 0).all() for item in series)
    return chart(
        key, title, caption,
        lambda p: charts.curves(series, p, x_label="epoch" if epochs else "step", line=line,
                                log=log, percent=percentage, **options),
        wide=wide,
    )  # fmt: skip


@dataclass(frozen=True)
class Official:
    """An official curve: what it is called, what the caption says of it, whether it is points."""

    name: str
    words: str
    x: Numbers
    y: Numbers

    loose: bool = False


def behind(official: Sequence[Official]) -> tuple[list[charts.Series], str]:
    """Official curves as they are drawn behind ours, in grey, and what the caption says of them."""
    series = [
        charts.Series(each.name, "muted", each.x, each.y, behind=place, loose=each.loose)
        for place, each in enumerate(official, start=1)
    ]
    how = "dots" if all(each.loose for each in official) else "broken lines"
    said = "; ".join(dict.fromkeys(each.words for each in official))
    return series, f"In grey {how}: {said}."


def cropped(series: Iterable[charts.Series]) -> tuple[float | None, str]:
    """Where the axis begins, and a sentence on it: the first steep epochs would press the rest
    together. None: nothing is cut off."""
    values = [item.y for item in series]
    lowest = min(float(y.min()) for y in values)
    low = min(float(np.quantile(y, STEEP)) for y in values)
    high = max(float(y.max()) for y in values)
    if low - lowest < 0.25 * (high - lowest):
        return None, ""
    low = max(low - 0.05 * (high - low), lowest)
    return low, f" The axis begins at {percent(low)}; the first epochs lie below."


def by_epoch(x: Numbers, y: Numbers) -> tuple[Numbers, Numbers]:
    """One value an epoch, where there are more: their mean, weighted by how long each reaches back.

    A trainer logs every few steps and once more at the end of an epoch, so that some values are
    means of many steps and some of few; drawn as they come they make a zigzag.

    Args:
        x: epochs done at each value, ascending. y: the values.
    """
    epoch = np.clip(np.ceil(x - 1e-6) - 1, 0, None)
    names, count = np.unique(epoch, return_counts=True)
    if count.max() == 1 or len(names) < FEWEST:
        return x, y
    reach = np.diff(x, prepend=0.0)
    sums = [np.bincount(epoch.astype(int), weights) for weights in (reach, reach * y)]
    place = names.astype(int)
    weight = np.maximum(sums[0][place], 1e-12)
    return names + 0.5, np.where(sums[0][place] > 0, sums[1][place] / weight, y[-1])


def _points(run: RunRecord, metric: str) -> tuple[Numbers, Numbers] | None:
    """Steps and values of a metric; None where there is no curve to draw."""
    pairs = [(step, value) for step, value in run.journal.get(metric, []) if math.isfinite(value)]
    if len(pairs) < 2:
        return None
    steps, values = zip(*pairs, strict=True)
    return np.array(steps, dtype=np.float64), np.array(values, dtype=np.float64)


def _steps_per_epoch(run: RunRecord, epochs: int | None) -> float | None:
    """Known only where the run went to its end: its last step is that of its last epoch."""
    last = max((step for values in run.journal.values() for step, _ in values), default=0)
    return last / epochs if run.finished and epochs and last > 0 else None


def _last(values: Numbers, steps: bool) -> float:
    """The end of a curve: of a long noisy one the mean of its last twentieth."""
    return float(values[-1 if steps else -max(1, len(values) // 20) :].mean())
