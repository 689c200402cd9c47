"""A chart of a grid of settings: a number over one of them, a line for each other choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sa3d.viz.style import VARIANTS, Palette, bare, figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS: Final = ("o", "s", "^", "D", "v", "P")


@dataclass(frozen=True)
class Point:
    """A mean over runs at one value of the setting; ``sd`` where there are several runs."""

    x: float
    mean: float
    sd: float | None = None


def lines(
    found: Sequence[tuple[str, Sequence[Point]]],
    palette: Palette,
    *,
    across: str,
    tick: Callable[[float], str],
) -> Figure:
    """Means with their standard deviations.

    Args:
        found: a label and points for every line, each by ascending x.
        palette: colours.
        across: what the horizontal axis is.
        tick: a value of the vertical axis as text.
    """
    fig = figure(7.2, 3.4 + 0.2 * max(0, len(found) - 4))
    axes = fig.subplots()
    bare(axes, palette)
    for place, (label, points) in enumerate(found):
        color = getattr(palette, VARIANTS[place % len(VARIANTS)])
        x, y = [each.x for each in points], [each.mean for each in points]
        axes.plot(
            x, y, label=label, color=color, linewidth=1.8, markersize=6,
            marker=MARKERS[place // len(VARIANTS) % len(MARKERS)],
            linestyle=("-", "--")[place // len(VARIANTS) % 2],
        )  # fmt: skip
        spread = [(each.x, each.mean, each.sd) for each in points if each.sd is not None]
        axes.errorbar(
            [x for x, _, _ in spread], [mean for _, mean, _ in spread],
            yerr=[sd for _, _, sd in spread],
            fmt="none", ecolor=color, elinewidth=1.2, capsize=3, alpha=0.7,
        )  # fmt: skip
    axes.set_xticks(sorted({point.x for _, points in found for point in points}))
    axes.set_xlabel(across, color=palette.ink)
    axes.yaxis.set_major_formatter(lambda value, _: tick(value))
    if len(found) > 1:
        axes.legend(
            frameon=False, labelcolor=palette.ink, fontsize=8.5,
            loc="upper left", bbox_to_anchor=(1.0, 1.0),
        )  # fmt: skip
    return fig
