"""Charts of the report: intervals, curves, confusion, accuracy a class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sa3d.viz.style import Palette, bare, figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NARROW = 4.9  # inches: a chart that shares its line with another
WHOLE = (9.5, 2.9)  # inches: curves that take a whole line
FEW = 16  # up to so many classes fit such a chart
BINS = 240  # points drawn of a long curve; each is the mean of its stretch
DASH = 4.0  # length of a dash where lines coincide, in line widths


@dataclass(frozen=True)
class Series:
    """One line: ``role`` names its colour in the palette.

    A ``thin`` line is one of several of the same variant; a line without ``label`` gets none. The
    n-th line that is not ours is ``behind`` by n: drawn under ours, each in dashes of its own.
    ``loose`` points are not joined.
    """

    label: str
    role: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    thin: bool = False
    behind: int = 0
    loose: bool = False


@dataclass(frozen=True)
class Dot:
    """A mean with its interval (low, high), or none; without a ``value``, the ``note`` why."""

    label: str
    role: str
    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""


def dots(
    items: Sequence[Dot],
    marks: Sequence[tuple[str, float]],
    palette: Palette,
    *,
    show: Callable[[float], str],
    tick: Callable[[float], str],
    limits: tuple[float, float],
    width: float = 7.2,
) -> Figure:
    """Means as dots with intervals, one below the other; ``marks`` are lines to hold them
    against, without their names on a narrow chart.

    Args:
        show, tick: a value and a mark of the axis as text.
        limits: what the metric can be at all; the axis does not go beyond.
    """
    fig = figure(width, 0.31 * len(items) + 0.2 * len(marks) + 0.45)
    axes = fig.subplots()
    bare(axes, palette, grid="x")
    values = [value for _, value in marks]
    heights = [-float(place) for place in range(len(items))]
    for height, item in zip(heights, items, strict=True):
        values += _dot(axes, item, height, palette, show)
    left, right = (min(values), max(values)) if values else (0.0, 1.0)
    margin = 0.06 * (right - left) or 0.1 * abs(left) or 0.1
    left, right = max(limits[0], left - margin), min(limits[1], right + margin)
    axes.set_xlim(left, right + 0.001 * (right - left))
    height = -float(len(items)) + 0.1
    for name, value in marks:
        axes.axvline(value, color=palette.muted, linewidth=1.0, linestyle=(0, (3, 3)))
        late = value > (left + right) / 2
        text = f"{name}: {show(value)}" if width > NARROW else show(value)
        axes.annotate(
            text, (value, height), (-4 if late else 4, 0),
            textcoords="offset points", color=palette.muted, fontsize=8,
            ha="right" if late else "left", va="center",
            bbox={"facecolor": palette.paper, "edgecolor": "none", "pad": 1.0},
        )  # fmt: skip
        height -= 0.65
    axes.set_yticks(heights, [item.label for item in items], color=palette.ink)
    axes.set_ylim(height + 0.2, 0.75)
    axes.locator_params(axis="x", nbins=6)
    axes.xaxis.set_major_formatter(lambda value, _: tick(value))
    return fig


def _dot(
    axes: Any, item: Dot, height: float, palette: Palette, show: Callable[[float], str]
) -> list[float]:
    """Draw one line of :func:`dots`; the values that it reaches to."""
    color = getattr(palette, item.role)
    if item.value is None:
        axes.text(
            0.0, height, f"  {item.note}", transform=axes.get_yaxis_transform(),
            va="center", color=palette.muted, fontsize=8.5, fontstyle="italic",
            zorder=5, bbox={"facecolor": palette.paper, "edgecolor": "none", "pad": 1.0},
        )  # fmt: skip
        return []
    reached = [item.value]
    if item.low is not None and item.high is not None:
        reached += [item.low, item.high]
        axes.plot([item.low, item.high], [height, height], color=color, linewidth=2.2, alpha=0.5,
                  solid_capstyle="butt")  # fmt: skip
    axes.plot([item.value], [height], "o", color=color, markersize=7.5)
    axes.annotate(
        show(item.value), (item.value, height), (0, 6.5), textcoords="offset points",
        ha="center", va="bottom", color=palette.ink, fontsize=8.5,
        bbox={"facecolor": palette.paper, "edgecolor": "none", "pad": 0.6},
    )  # fmt: skip
    return reached


def curves(
    series: Sequence[Series],
    palette: Palette,
    *,
    x_label: str,
    percent: bool = False,
    log: bool = False,
    steps: bool = False,
    line: tuple[str, float] | None = None,
    floor: float | None = None,
    size: tuple[float, float] = (NARROW, 2.75),
) -> Figure:
    """Lines over training, each labelled at its end; long ones as means of stretches.

    Lines that coincide are drawn as one line whose dashes take turns in their colours.

    Args:
        floor: where the vertical axis begins; lines may reach below it.
    """
    fig = figure(*size)
    axes = fig.subplots()
    bare(axes, palette)
    ends: list[tuple[float, Series]] = []
    for item, (turn, of) in zip(series, turns(series), strict=True):
        pen: dict[str, Any] = _pen(item, palette)
        if of > 1:
            pen |= {"linestyle": (-turn * DASH, (DASH, (of - 1) * DASH)), "dash_capstyle": "butt"}
        end = float(item.y[-1])
        if item.loose or len(item.x) == 1:
            large = 7.0 if len(item.x) == 1 else 2.2
            axes.plot(item.x, item.y, "o", color=pen["color"], markersize=large, clip_on=False,
                      zorder=1.5 if item.behind else 3.0)  # fmt: skip
            end = float(item.y.mean())
        elif steps:
            axes.step(item.x, item.y, where="pre", **pen)
        else:
            x, middle, low, high = binned(item.x, item.y)
            if len(x) < len(item.x) and not item.thin and not item.behind:
                axes.fill_between(x, low, high, color=pen["color"], alpha=0.16, linewidth=0)
            axes.plot(x, middle, **pen)
            end = float(middle[-1])
        if item.label:
            ends.append((end, item))
    if line is not None:
        axes.axhline(line[1], color=palette.muted, linewidth=1.0, linestyle=(0, (3, 3)))
        axes.annotate(line[0], (0.0, line[1]), (3, 3), xycoords=axes.get_yaxis_transform(),
                      textcoords="offset points", color=palette.muted, fontsize=8)  # fmt: skip
    if log:
        from matplotlib.ticker import LogLocator, NullLocator

        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    if percent:
        axes.yaxis.set_major_formatter(lambda value, _: f"{value * 100:.3g} %")
    axes.set_xlabel(x_label, color=palette.muted, fontsize=8.5)
    axes.margins(x=0.0)
    axes.set_xlim(0.0, max(float(item.x[-1]) for item in series))
    if floor is not None:
        axes.set_ylim(bottom=floor)
    axes.locator_params(axis="x", integer=True, nbins=8)
    if len(ends) > 1:
        _end_labels(axes, ends, palette)
    return fig


def _pen(item: Series, palette: Palette) -> dict[str, Any]:
    color = getattr(palette, item.role)
    if item.behind:
        dashes = ((4.0, 1.5), (1.2, 1.2), (6.0, 1.5, 1.2, 1.5))[(item.behind - 1) % 3]
        return {"color": color, "linewidth": 1.6, "linestyle": (0, dashes), "zorder": 1.5}
    return {"color": color, "linewidth": 0.9 if item.thin else 1.8}


def turns(series: Sequence[Series]) -> list[tuple[int, int]]:
    """Of every line, which of the colours that share its course is its own, and how many do."""
    groups: list[list[Series]] = []
    own: list[list[Series]] = []
    for item in series:
        found = next((group for group in groups if _coincide(item, group[0])), None)
        if found is None:
            groups.append(found := [])
        found.append(item)
        own.append(found)
    colors = [list(dict.fromkeys(item.role for item in group)) for group in own]
    return [
        (roles.index(item.role), len(roles)) for item, roles in zip(series, colors, strict=True)
    ]


def _coincide(one: Series, other: Series) -> bool:
    if len(one.x) == 1 or len(one.x) != len(other.x) or one.behind or other.behind:
        return False
    reach = float(np.ptp(other.y)) or 1.0
    return bool(np.allclose(one.x, other.x) and np.allclose(one.y, other.y, atol=1e-3 * reach))


def _end_labels(axes: Any, ends: list[tuple[float, Series]], palette: Palette) -> None:
    """Names at the right ends of the lines, pushed apart where they would overlap."""
    axes.get_ylim()  # settles the limits that the transform below reads
    to_share = axes.transScale + axes.transLimits
    spots = [(float(to_share.transform((1.0, value))[1]), item) for value, item in ends]
    spots.sort(key=lambda pair: pair[0])
    gap = 0.26 / axes.figure.get_figheight()
    heights = spread([share for share, _ in spots], gap)
    for height, (_, item) in zip(heights, spots, strict=True):
        axes.annotate(item.label, (1.0, height), (7, 0), xycoords="axes fraction",
                      textcoords="offset points", va="center", fontsize=8.5,
                      color=getattr(palette, item.role))  # fmt: skip


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Ascending ``heights``, moved within [0, 1] as little as makes all ``gap`` apart.

    Where there is no room for all, they reach below 0.
    """
    found: list[float] = []
    for height in heights:
        found.append(max(min(height, 1.0), 0.0, found[-1] + gap if found else 0.0))
    ceiling = 1.0
    for place in reversed(range(len(found))):
        found[place] = min(found[place], ceiling)
        ceiling = found[place] - gap
    return found


def binned(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """At most :data:`BINS` stretches of a curve: place, mean, 10 and 90 % quantile of each."""
    if len(x) <= BINS:
        return x, y, y, y
    parts = [np.arange(len(x))[s] for s in _stretches(len(x))]
    return (
        np.array([x[p].mean() for p in parts]),
        np.array([y[p].mean() for p in parts]),
        np.array([np.quantile(y[p], 0.1) for p in parts]),
        np.array([np.quantile(y[p], 0.9) for p in parts]),
    )


def _stretches(length: int) -> list[slice]:
    edges = np.linspace(0, length, BINS + 1).astype(int)
    return [slice(a, b) for a, b in pairwise(edges) if b > a]


def confusion(
    matrix: NDArray[np.int64], names: Sequence[str], palette: Palette, *, title: str = ""
) -> Figure:
    """Rows are true classes, columns predictions; tint is the share of the row, text counts."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    total = len(matrix)
    side = NARROW if total <= FEW else 9.5
    fig = figure(side, side)
    axes = fig.subplots()
    bare(axes, palette, grid="")
    sums = np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    share = matrix / sums
    cells = np.argwhere(matrix > 0)
    font = 8.0 if total <= 12 or FEW < total <= 34 else (6.8 if total <= FEW else 5.5)
    for true, guess in cells:
        axes.add_collection(
            PatchCollection(
                [Rectangle((guess - 0.5, true - 0.5), 1, 1)],
                facecolor=palette.link if true == guess else palette.alert,
                edgecolor="none",
                alpha=0.10 + 0.70 * float(share[true, guess]),
            )
        )
        axes.text(guess, true, str(matrix[true, guess]), ha="center", va="center",
                  color=palette.ink, fontsize=font)  # fmt: skip
    axes.set_xticks(range(total), names, rotation=90, fontsize=min(8.5, font + 1.5))
    axes.set_yticks(range(total), names, fontsize=min(8.5, font + 1.5))
    axes.set_xlim(-0.5, total - 0.5)
    axes.set_ylim(total - 0.5, -0.5)
    axes.set_aspect("equal")
    for edge in np.arange(-0.5, total, 1.0):
        axes.axhline(edge, color=palette.grid, linewidth=0.6)
        axes.axvline(edge, color=palette.grid, linewidth=0.6)
    axes.set_xlabel("predicted", color=palette.muted, fontsize=8.5)
    axes.set_ylabel("true", color=palette.muted, fontsize=8.5)
    if title:
        fig.suptitle(title, color=palette.ink, fontsize=10.5, fontweight="bold")
    return fig


def per_class(
    names: Sequence[str],
    variants: Sequence[tuple[str, str, NDArray[np.float64]]],
    counts: NDArray[np.int64],
    palette: Palette,
) -> Figure:
    """Accuracy of every class for each variant ``(label, role, (T,))``, best classes first."""
    order = np.argsort(-variants[0][2], kind="stable")
    fig = figure(NARROW if len(names) <= FEW else 9.5, 0.27 * len(names) + 0.75)
    axes = fig.subplots()
    bare(axes, palette, grid="x")
    heights = -np.arange(len(names), dtype=np.float64)
    stack = np.stack([values[order] for _, _, values in variants])
    axes.hlines(heights, stack.min(0), stack.max(0), color=palette.grid, linewidth=3.0)
    for place, (label, role, values) in reversed(list(enumerate(variants))):
        axes.plot(values[order], heights, "o^sDvP"[place % 6], label=label,
                  color=getattr(palette, role), markersize=6.0 - 0.5 * place,
                  alpha=0.95, linestyle="none")  # fmt: skip
    axes.set_yticks(heights, [f"{names[i]}  ({counts[i]})" for i in order], color=palette.ink)
    axes.set_ylim(heights[-1] - 0.6, 0.6)
    axes.set_xlim(-0.02, 1.02)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value * 100:.0f} %")
    handles, labels = axes.get_legend_handles_labels()
    fig.legend(handles[::-1], labels[::-1], loc="outside upper left", ncols=min(3, len(variants)),
               frameon=False, fontsize=8.5, labelcolor=palette.ink, handletextpad=0.2,
               columnspacing=1.2)  # fmt: skip
    return fig
