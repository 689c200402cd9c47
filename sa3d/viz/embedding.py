"""Features of many clouds on a plane: near each other where the model finds them alike."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from sa3d.viz import solid
from sa3d.viz.clouds import REACH, Panel, draw, view
from sa3d.viz.gallery import Shot, page, shortened
from sa3d.viz.style import Palette, figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

THUMBNAILS: Final = 22
_MARKERS: Final = "os^Dv"
_SYMBOLS: Final = ("circle", "square", "triangle-up", "diamond", "triangle-down")
_SIDE: Final = 0.82  # inches of a thumbnail


@dataclass(frozen=True)
class Plane:
    """A map.

    Attributes:
        places: (S, 2).
        labels: (S,) class of each cloud.
        class_names: names of the classes.
        ids: name of each cloud.
        thumbnails: rows with a picture, and their points.
        how: what the places were made by.
    """

    places: NDArray[np.float64]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    ids: tuple[str, ...]
    thumbnails: Sequence[tuple[int, NDArray[Any]]]
    how: str


def spread_out(places: NDArray[np.float64], count: int = THUMBNAILS) -> list[int]:
    """Rows of ``count`` places that lie far from each other."""
    chosen = [int(np.argmin(((places - places.mean(axis=0)) ** 2).sum(axis=1)))]
    gap = np.full(len(places), np.inf)
    while len(chosen) < min(count, len(places)):
        gap = np.minimum(gap, ((places - places[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(np.argmax(gap)))
    return chosen


def _styles(shown: Plane) -> dict[int, tuple[Any, int]]:
    """Colour and marker of each class that is there, by its place among them.

    Neighbours in the list differ in lightness as well as in marker, so that grey paper tells them.
    """
    import matplotlib as mpl

    present = np.unique(shown.labels).tolist()
    colors = mpl.colormaps["viridis"](np.linspace(0.0, 0.93, len(present)))
    order = [at * 7 % len(present) for at in range(len(present))]
    order = order if len(set(order)) == len(present) else list(range(len(present)))
    return {label: (colors[order[at]], at % len(_MARKERS)) for at, label in enumerate(present)}


def map_figure(shown: Plane, palette: Palette, title: str) -> Figure:
    """The map, some of its clouds as pictures in their places, and the classes at the right."""
    styles = _styles(shown)
    columns = 1 if len(styles) <= 34 else 2
    fig = figure(10.2 + 2.1 * (columns - 1), 7.6)
    fig.set_layout_engine("none")
    wide, high = fig.get_figwidth(), fig.get_figheight()
    axes = fig.add_axes((0.1 / wide, 0.32 / high, 7.6 / wide, (high - 0.85) / high))
    axes.set_axis_off()
    for label, (color, mark) in styles.items():
        x, y = shown.places[shown.labels == label].T
        axes.scatter(x, y, s=20, color=color, marker=_MARKERS[mark], alpha=0.85, linewidths=0.3,
                     edgecolors=palette.paper, label=shown.class_names[label])  # fmt: skip
    axes.margins(0.07)
    axes.apply_aspect()
    to_figure = axes.transData + fig.transFigure.inverted()
    for row, points in shown.thumbnails:
        x, y = to_figure.transform(shown.places[row])
        box = (x - _SIDE / 2 / wide, y - _SIDE / 2 / high, _SIDE / wide, _SIDE / high)
        small = fig.add_axes(box)
        small.set_zorder(3)
        framed = Shot(points, "").framed()
        projected = view(framed)
        front = solid.facing(projected)
        tints = solid.tints(solid.lightness(framed), palette.ink, palette)[front]
        draw(small, Panel("", projected[front], tints, 0.2, REACH), palette,
             reference=min(len(points), 700), pixels=True)  # fmt: skip
    fig.legend(*axes.get_legend_handles_labels(), loc="center left", frameon=False, fontsize=7.5,
               bbox_to_anchor=(7.75 / wide, 0.5), ncols=columns, labelcolor=palette.ink,
               handletextpad=0.2, labelspacing=0.35, markerscale=1.2)  # fmt: skip
    fig.text(0.12 / wide, 1 - 0.22 / high, title, fontsize=11.5, fontweight="bold", va="center",
             color=palette.ink)  # fmt: skip
    fig.text(0.12 / wide, 0.16 / high, shown.how, fontsize=8, va="center", color=palette.muted)
    return fig


def map_page(shown: Plane, palette: Palette, title: str) -> str:
    """The map as a page: the name of a cloud under the mouse, classes to switch on and off."""
    import plotly.graph_objects as go
    from matplotlib.colors import to_hex

    fig = go.Figure()
    for label, (color, mark) in _styles(shown).items():
        rows = np.flatnonzero(shown.labels == label)
        name = html.escape(shown.class_names[label])
        fig.add_trace(go.Scattergl(
            x=shown.places[rows, 0], y=shown.places[rows, 1], mode="markers", name=name,
            text=[html.escape(shortened(shown.ids[row], 60)) for row in rows.tolist()],
            hovertemplate="%{text}<extra>" + name + "</extra>",
            marker={"size": 8, "color": to_hex(color), "symbol": _SYMBOLS[mark],
                    "line": {"width": 0.5, "color": palette.paper}},
        ))  # fmt: skip
    fig.update_layout(
        title={"text": f"<b>{html.escape(title)}</b><br><span style='font-size:12px'>"
               f"{html.escape(shown.how)}</span>"},
        xaxis={"visible": False}, yaxis={"visible": False, "scaleanchor": "x"}, height=820,
        paper_bgcolor=palette.paper, plot_bgcolor=palette.paper, margin={"l": 12, "r": 12, "b": 12},
        font={"family": "system-ui, sans-serif", "color": palette.ink},
    )  # fmt: skip
    return page(fig, title)
