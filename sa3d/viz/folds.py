"""Values of single folds, one variant beside the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sa3d.viz.charts import NARROW
from sa3d.viz.style import Palette, bare, figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_WRITTEN = 12  # folds whose values fit below the dots as numbers


@dataclass(frozen=True)
class Folds:
    """A variant: ``role`` names its colour, ``values`` are by fold."""

    label: str
    role: str
    values: Mapping[int, float]


def folds(
    items: Sequence[Folds],
    palette: Palette,
    *,
    x_label: str,
    show: Callable[[float], str],
    tick: Callable[[float], str],
    width: float = 7.2,
) -> Figure:
    """A column a fold with a dot a variant, and at the right mean and sample standard deviation;
    below, the same as numbers, where there are few enough folds.

    Args:
        items: variants; folds that one lacks are left out of its line.
        x_label: what a fold is.
        show: a value as text, without its unit, for the numbers.
        tick: a mark of the axis as text.
    """
    numbers = sorted({fold for item in items for fold in item.values})
    column = {fold: place for place, fold in enumerate(numbers)}
    mean_at = len(numbers) + 0.35
    written = len(numbers) <= MOST_WRITTEN
    above = width < NARROW  # names of variants above their numbers instead of beside them
    rows = (0.4 if above else 0.24) * len(items) if written else 0.0
    fig = figure(width, 2.3 + rows + 0.45)
    ratios = [2.3, rows + 0.05] if written else [1.0]
    axes, *below = np.atleast_1d(fig.subplots(len(ratios), 1, height_ratios=ratios, sharex=True))
    bare(axes, palette)
    _spans(axes, items, column, palette)
    step = 0.5 / max(len(items), 1)
    for place, item in enumerate(items):
        offset = (place - (len(items) - 1) / 2) * step * 0.6
        _dots(axes, item, column, offset, mean_at, palette)
    axes.axvline(len(numbers) - 0.35, color=palette.grid, linewidth=0.8)
    axes.yaxis.set_major_formatter(lambda value, _: tick(value))
    axes.set_xlim(-0.6, mean_at + 0.65)
    axes.set_xticks([*column.values(), mean_at], [*map(str, numbers), "mean"])
    axes.tick_params(axis="x", labelbottom=True)
    axes.set_xlabel(x_label, color=palette.muted, fontsize=8.5)
    if written:
        _numbers(below[0], items, column, mean_at, palette, show, above)
    return fig


def _spans(axes: Any, items: Sequence[Folds], column: Mapping[int, int], palette: Palette) -> None:
    """Behind the dots of a fold a line from the lowest to the highest: they belong together."""
    for fold, place in column.items():
        values = [item.values[fold] for item in items if fold in item.values]
        axes.plot([place, place], [min(values), max(values)], color=palette.grid, linewidth=5.0,
                  solid_capstyle="round")  # fmt: skip


def _dots(
    axes: Any,
    item: Folds,
    column: Mapping[int, int],
    offset: float,
    mean_at: float,
    palette: Palette,
) -> None:
    color = getattr(palette, item.role)
    x = [column[fold] + offset for fold in item.values]
    values = list(item.values.values())
    axes.plot(x, values, "o", color=color, markersize=5.0, markeredgewidth=0.0)
    if len(values) > 1:
        mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
        at = mean_at + 1.6 * offset
        axes.plot([at, at], [mean - sd, mean + sd], color=color, linewidth=2.0, alpha=0.5,
                  solid_capstyle="butt")  # fmt: skip
        axes.plot([at], [mean], "s", color=color, markersize=5.5, markeredgewidth=0.0)


def _numbers(
    axes: Any,
    items: Sequence[Folds],
    column: Mapping[int, int],
    mean_at: float,
    palette: Palette,
    show: Callable[[float], str],
    above: bool,
) -> None:
    bare(axes, palette, grid="")
    axes.tick_params(axis="x", labelbottom=False)
    pitch = 1.7 if above else 1.0
    heights = [-pitch * row for row in range(len(items))]
    for height, item in zip(heights, items, strict=True):
        mean = float(np.mean(list(item.values.values())))
        cells = [(column[fold], value, "normal") for fold, value in item.values.items()]
        for x, value, weight in [*cells, (mean_at, mean, "bold")]:
            axes.text(x, height, show(value), ha="center", va="center", fontsize=7.5,
                      color=palette.ink, fontweight=weight)  # fmt: skip
        if above:
            axes.text(-0.5, height + 0.8, item.label, ha="left", va="center", fontsize=8.0,
                      color=getattr(palette, item.role))  # fmt: skip
    axes.set_ylim(heights[-1] - 0.6, 1.3 if above else 0.5)
    axes.set_yticks([] if above else heights, [] if above else [item.label for item in items])
    for text, item in zip(axes.get_yticklabels(), items, strict=False):
        text.set_color(getattr(palette, item.role))
        text.set_fontsize(8.0)
