"""Shapes side by side in rows: as a figure for paper, and as a page in which they can be turned."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sa3d.viz import solid
from sa3d.viz.clouds import (
    AZIMUTH,
    ELEVATION,
    REACH,
    Panel,
    complexity_map,
    draw,
    frame,
    gradient,
    view,
)  # fmt: skip
from sa3d.viz.style import LIGHT, Palette, figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELL: Final = (2.15, 1.95)  # inches
_VIEW: Final = 230  # pixels that a turning view is wide at least: a narrower one cuts wide shapes
MOST_TURNED: Final = 16
"""Views in a page: browsers draw no more of them at once."""
MARKS: Final = ("o", "s", "^", "D")
_PAGE_MARKS: Final = ("circle", "square", "diamond", "cross")
_NAME: Final = 28  # letters of a caption
_TEXT: Final = 0.52  # inches below a view
_HEAD: Final = 0.34  # inches above the first row, and below the last one for the legend
_DENSE: Final = 1100  # points of a solid, for the size of its dots: they overlap


@dataclass(frozen=True)
class Shot:
    """One view of a shape.

    Attributes:
        points: (P, 3), y up, anywhere.
        colors: (P, 3), or the name of one colour: then the shape is drawn as a solid.
        caption: what it is, below it.
        note: more of it, in smaller letters.
        bar: a share in [0, 1] to show as a bar beside the note.
        marks: (P,) index of each point's marker in :data:`MARKS`; None: all are circles.
        fog: how far the rearmost points fade into the paper.
        around: points whose frame the view has; None: its own.
        strong: drawn on a tinted card, as what the others are compared with.
    """

    points: NDArray[Any]
    colors: NDArray[np.float64] | str
    caption: str = ""
    note: str = ""
    bar: float | None = None
    marks: NDArray[np.int64] | None = None
    fog: float = 0.3
    around: NDArray[Any] | None = None
    strong: bool = False

    def framed(self) -> NDArray[np.float64]:
        """The points around the middle of the view, in radii of it."""
        middle, radius = frame(np.asarray(self.points if self.around is None else self.around))
        placed: NDArray[np.float64] = (np.asarray(self.points, dtype=np.float64) - middle) / radius
        return placed


class Strip(NamedTuple):
    """A row of views; ``label`` stands at its left."""

    shots: Sequence[Shot]
    label: str = ""


class Key(NamedTuple):
    """An entry of the legend."""

    text: str
    color: str
    mark: int = 0


@dataclass(frozen=True)
class Gallery:
    """What is shown.

    Attributes:
        strips: rows.
        title: above all.
        heads: above the columns.
        keys: the legend.
        complexity: whether the legend has the scale from easy to hard.
    """

    strips: Sequence[Strip]
    title: str = ""
    heads: Sequence[str] = ()
    keys: Sequence[Key] = ()
    complexity: bool = False

    @property
    def columns(self) -> int:
        """Views of the longest row."""
        return max(len(strip.shots) for strip in self.strips)


def gallery_figure(shown: Gallery, palette: Palette) -> Figure:
    """The gallery as a figure."""
    labelled = any(strip.label for strip in shown.strips)
    texts = (
        _TEXT if any(s.caption or s.note for strip in shown.strips for s in strip.shots) else 0.0
    )
    left = 0.3 if labelled else 0.05
    above = (_HEAD if shown.heads else 0.0) + (0.42 if shown.title else 0.05)
    below = _HEAD if shown.keys or shown.complexity else 0.05
    wide = left + CELL[0] * shown.columns + 0.05
    high = above + (CELL[1] + texts) * len(shown.strips) + below
    fig = figure(wide, high)
    fig.set_layout_engine("none")
    if shown.title:
        fig.text(0.12 / wide, 1 - 0.2 / high, shown.title, fontsize=11.5, fontweight="bold",
                 color=palette.ink, va="center")  # fmt: skip
    for column, head in enumerate(shown.heads):
        x = (left + CELL[0] * (column + 0.5)) / wide
        fig.text(x, 1 - (above - 0.14) / high, head, ha="center", va="center", fontsize=9.5,
                 fontweight="bold", color=palette.ink)  # fmt: skip
    for row, strip in enumerate(shown.strips):
        bottom = high - above - (CELL[1] + texts) * (row + 1)
        if strip.label:
            fig.text(0.16 / wide, (bottom + texts + CELL[1] / 2) / high, strip.label, rotation=90,
                     ha="center", va="center", fontsize=9, color=palette.muted)  # fmt: skip
        for column, shot in enumerate(strip.shots):
            _cell(fig, shot, palette, (left + CELL[0] * column, bottom), texts)
    if below > 0.1:
        _legend(fig, shown, palette)
    return fig


def _cell(
    fig: Any, shot: Shot, palette: Palette, corner: tuple[float, float], texts: float
) -> None:
    """A view with its words; ``corner`` in inches."""
    from matplotlib.patches import FancyBboxPatch

    wide, high = fig.get_figwidth(), fig.get_figheight()
    if shot.strong:
        box = ((corner[0] + 0.06) / wide, (corner[1] + 0.05) / high)
        fig.add_artist(FancyBboxPatch(
            box, (CELL[0] - 0.12) / wide, (CELL[1] + texts - 0.08) / high, zorder=-1,
            boxstyle="round,pad=0,rounding_size=0.006", mutation_aspect=wide / high,
            facecolor=palette.grid, alpha=0.5, edgecolor="none", transform=fig.transFigure,
        ))  # fmt: skip
    axes = fig.add_axes((corner[0] / wide, (corner[1] + texts) / high, CELL[0] / wide,
                         CELL[1] / high))  # fmt: skip
    axes.set_facecolor("none")
    place = shot.framed()
    projected, marks = view(place), shot.marks
    if isinstance(shot.colors, str):
        chosen = solid.facing(projected)
        colors = solid.tints(solid.lightness(place), shot.colors, palette)[chosen]
        projected, reference = projected[chosen], min(len(place), _DENSE)
    else:
        colors, reference = shot.colors, len(place)
    draw(axes, Panel("", projected, colors, shot.fog, REACH), palette, reference=max(reference, 1),
         marks=None if marks is None else [MARKS[mark] for mark in marks.tolist()],
         pixels=isinstance(shot.colors, str))  # fmt: skip
    middle = (corner[0] + CELL[0] / 2) / wide
    if shot.caption:
        text = shortened(shot.caption, _NAME - 3 * shot.strong)
        fig.text(middle, (corner[1] + texts - 0.1) / high, text, ha="center",
                 va="center", fontsize=7.6, color=palette.ink,
                 fontweight="bold" if shot.strong else "normal")  # fmt: skip
    at = (corner[1] + texts - 0.27) / high
    if shot.bar is None:
        fig.text(middle, at, shortened(shot.note), ha="center", va="center", fontsize=7.2,
                 color=palette.muted)  # fmt: skip
        return
    _bar(fig, shot, palette, (corner[0] + 0.35) / wide, at)


def _bar(fig: Any, shot: Shot, palette: Palette, left: float, at: float) -> None:
    from matplotlib.patches import Rectangle

    wide, high = fig.get_figwidth(), fig.get_figheight()
    length, thick = 1.05 / wide, 0.055 / high
    assert shot.bar is not None
    for share, color in ((1.0, palette.grid), (min(max(shot.bar, 0.0), 1.0), palette.link)):
        fig.add_artist(Rectangle((left, at - thick / 2), length * share, thick, facecolor=color,
                                 edgecolor="none", transform=fig.transFigure))  # fmt: skip
    fig.text(left + length + 0.08 / wide, at, shot.note, ha="left", va="center", fontsize=7.8,
             color=palette.ink)  # fmt: skip


def _legend(fig: Any, shown: Gallery, palette: Palette) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.lines import Line2D

    wide, high = fig.get_figwidth(), fig.get_figheight()
    if shown.complexity:
        bar = fig.add_axes((0.75 / wide, 0.14 / high, 1.5 / wide, 0.1 / high))
        scale = fig.colorbar(ScalarMappable(cmap=complexity_map(palette)), cax=bar,
                             orientation="horizontal", ticks=[])  # fmt: skip
        scale.outline.set_visible(False)
        for at, text, side in ((0.69, "easy", "right"), (2.31, "hard", "left")):
            fig.text(at / wide, 0.19 / high, text, ha=side, va="center", fontsize=8.5,
                     color=palette.muted)  # fmt: skip
    if shown.keys:
        handles = [
            Line2D(
                [], [], marker=MARKS[key.mark], linestyle="none", color=key.color, label=key.text
            )
            for key in shown.keys
        ]
        fig.legend(handles=handles, loc="center right", ncols=len(handles), frameon=False,
                   fontsize=8.5, bbox_to_anchor=(1 - 0.05 / wide, 0.19 / high),
                   labelcolor=palette.muted, handletextpad=0.1, columnspacing=1.4)  # fmt: skip


def shortened(text: str, most: int = _NAME) -> str:
    """The text, its middle left out where it is too long; its end says most in a file's name."""
    if len(text) <= most:
        return text
    head = most // 3
    return f"{text[:head]}…{text[head + 1 - most :]}"


# --- the page ------------------------------------------------------------------------------


def gallery_page(shown: Gallery, palette: Palette = LIGHT) -> str:
    """The gallery as one HTML file that asks no other for anything; shapes turn with the mouse.

    What is more than :data:`MOST_TURNED` views is left out, and the page says so.
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    strips, left_out = _cut(shown.strips)
    columns, rows = max(len(strip.shots) for strip in strips), len(strips)
    fig = make_subplots(
        rows=rows, cols=columns, horizontal_spacing=0.004, vertical_spacing=0.06 / rows,
        specs=[[{"type": "scene"} if place < len(strip.shots) else None for place in range(columns)]
               for strip in strips],
    )  # fmt: skip
    notes: list[dict[str, Any]] = []
    number = 0
    for row, strip in enumerate(strips):
        for column, shot in enumerate(strip.shots):
            number += 1
            fig.add_trace(_trace(go, shot, palette), row=row + 1, col=column + 1)
            domain = fig.layout["scene" if number == 1 else f"scene{number}"].domain
            notes += _words(shown, strip, shot, palette, (row, column), domain)
    a, e = np.radians(AZIMUTH), np.radians(ELEVATION)
    eye = 1.85 * np.array([np.cos(e) * np.sin(a), np.sin(e), np.cos(e) * np.cos(a)])
    axis = {"visible": False, "range": [-1.05, 1.05]}
    fig.update_scenes(
        xaxis=axis, yaxis=axis, zaxis=axis, aspectmode="cube", bgcolor="rgba(0,0,0,0)",
        camera={"up": {"x": 0, "y": 1, "z": 0}, "eye": dict(zip("xyz", eye.tolist(), strict=True))},
    )  # fmt: skip
    for text, color, mark in shown.keys:
        fig.add_trace(
            go.Scatter3d(x=[None], y=[None], z=[None], mode="markers", name=text, showlegend=True,
                         marker={"size": 9, "color": color, "symbol": _PAGE_MARKS[mark]}),
            row=1, col=1,
        )  # fmt: skip
    more = f"<br><span style='font-size:12px'>{html.escape(left_out)}</span>" if left_out else ""
    fig.update_layout(
        title={"text": f"<b>{html.escape(shown.title)}</b>{more}", "x": 0.01, "xanchor": "left"},
        annotations=notes, height=130 + 290 * rows, margin={"l": 36, "r": 12, "t": 84, "b": 60},
        paper_bgcolor=palette.paper, font={"family": "system-ui, sans-serif", "color": palette.ink},
        legend={"orientation": "h", "y": -0.02, "x": 1, "xanchor": "right", "yanchor": "top",
                "itemclick": False, "itemdoubleclick": False},
    )  # fmt: skip
    if shown.complexity:
        fig.update_layout(coloraxis={
            "colorscale": gradient(palette), "cmin": 0, "cmax": 1,
            "colorbar": {"orientation": "h", "x": 0, "xanchor": "left", "y": -0.02,
                         "yanchor": "top", "len": 0.3, "thickness": 10, "tickvals": [0, 1],
                         "ticktext": ["easy", "hard"]},
        })  # fmt: skip
        fig.add_trace(
            go.Scatter3d(x=[None], y=[None], z=[None], mode="markers", showlegend=False,
                         marker={"color": [0.0], "coloraxis": "coloraxis"}), row=1, col=1,
        )  # fmt: skip
    return page(fig, shown.title, least_width=48 + _VIEW * columns)


def page(fig: Any, title: str, least_width: int = 0) -> str:
    """A plotly figure as one HTML file, the library in it; no address is ever asked.

    Args:
        fig: the figure.
        title: of the page.
        least_width: pixels; a narrower window scrolls sideways.
    """
    body = fig.to_html(
        include_plotlyjs=True, full_html=False,
        config={"displaylogo": False, "responsive": True, "displayModeBar": False},
    )  # fmt: skip
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title></head>"
        f'<body style="margin:0;min-width:{least_width}px">{body}</body></html>\n'
    )


def _cut(strips: Sequence[Strip]) -> tuple[list[Strip], str]:
    """As many views as a page can hold, whole rows first, and what is not there in words."""
    found: list[Strip] = []
    room = MOST_TURNED
    for strip in strips:
        if len(strip.shots) > room and found:
            break
        found.append(Strip(strip.shots[:room], strip.label))
        room -= len(found[-1].shots)
    total = sum(len(strip.shots) for strip in strips)
    shown = sum(len(strip.shots) for strip in found)
    return found, f"{shown} of {total} views: a page can turn no more at once" * (shown < total)


def _trace(go: Any, shot: Shot, palette: Palette) -> Any:
    place = shot.framed().astype(np.float32)
    colors = shot.colors
    dense = isinstance(colors, str)
    if isinstance(colors, str):
        colors = solid.tints(solid.lightness(place), colors, palette)
    whole = np.rint(np.clip(colors, 0, 1) * 255).astype(int)
    marker: dict[str, Any] = {
        "size": 2.4 if dense else min(4.5, 100 / np.sqrt(len(place))),
        "color": [f"rgb({r},{g},{b})" for r, g, b in whole.tolist()],
        "line": {"width": 0 if dense else 1, "color": "rgba(30, 35, 45, 0.35)"},
    }
    if shot.marks is not None:
        marker["symbol"] = [_PAGE_MARKS[mark] for mark in shot.marks.tolist()]
    inside = np.abs(place).max(axis=1) <= 1.6
    return go.Scatter3d(
        x=np.where(inside, place[:, 0], np.nan), y=place[:, 1], z=place[:, 2], mode="markers",
        marker=marker, hoverinfo="skip", showlegend=False,
    )  # fmt: skip


def _words(
    shown: Gallery, strip: Strip, shot: Shot, palette: Palette, at: tuple[int, int], domain: Any
) -> list[dict[str, Any]]:
    """What stands around a view."""
    row, column = at
    middle = (domain.x[0] + domain.x[1]) / 2
    common = {"xref": "paper", "yref": "paper", "showarrow": False}
    lines = []
    if shot.caption:
        text = html.escape(shortened(shot.caption))
        lines.append(f"<b>{text}</b>" if shot.strong else text)
    if shot.note:
        lines.append(f"<span style='color:{palette.muted}'>{html.escape(shot.note)}</span>")
    found: list[dict[str, Any]] = []
    if lines:
        found.append({**common, "text": "<br>".join(lines), "x": middle, "y": domain.y[0],
                      "xanchor": "center", "yanchor": "bottom", "font": {"size": 12}})  # fmt: skip
    if row == 0 and column < len(shown.heads):
        found.append({**common, "text": f"<b>{html.escape(shown.heads[column])}</b>", "x": middle,
                      "y": domain.y[1], "xanchor": "center", "yanchor": "bottom"})  # fmt: skip
    if column == 0 and strip.label:
        found.append({**common, "text": html.escape(strip.label), "x": 0, "xshift": -18,
                      "y": (domain.y[0] + domain.y[1]) / 2, "textangle": -90,
                      "xanchor": "center", "yanchor": "middle",
                      "font": {"size": 12, "color": palette.muted}})  # fmt: skip
    return found
