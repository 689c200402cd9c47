"""Point clouds drawn so that a shape is recognised: one view, perspective, depth in size and
tint, near points over far ones.

Points are projected here and drawn as a plain scatter: matplotlib's own 3-D axes neither
scale points with depth nor order several sets of points among each other.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sa3d.viz import explain as ex
from sa3d.viz.style import DARK, Palette, figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AZIMUTH, ELEVATION = 38.0, 20.0  # degrees
DISTANCE = 4.2  # of the camera, in cloud radii
COMPLEXITY, MASKED, REBUILT = "predicted complexity", "what was masked", "what was rebuilt"
REACH = 1.06  # half the height of the view, in cloud radii; more where rebuilt points lie beyond
FARTHEST = 1.6
ASPECT = 1.2  # the least width of a panel, in heights of it
EDGE = 0.98  # of the view's half height: what lies farther out is not drawn


def view(points: NDArray[Any]) -> NDArray[np.float64]:
    """Right, up and towards-the-viewer coordinates (N, 3), after perspective."""
    x, y, z = np.asarray(points, dtype=np.float64).T
    a, e = np.radians(AZIMUTH), np.radians(ELEVATION)
    right = np.cos(a) * x - np.sin(a) * z
    back = np.sin(a) * x + np.cos(a) * z
    height = np.cos(e) * y - np.sin(e) * back
    depth = np.sin(e) * y + np.cos(e) * back
    scale = DISTANCE / (DISTANCE - depth)
    return np.stack([right * scale, height * scale, depth], axis=1)


def complexity_map(palette: Palette) -> Any:
    """Perceptually uniform colours: from near the paper (easy) to far from it (hard)."""
    import matplotlib as mpl
    from matplotlib.colors import LinearSegmentedColormap

    dark = palette == DARK
    source = mpl.colormaps["magma" if dark else "magma_r"]
    low, high = (0.22, 0.98) if dark else (0.10, 0.86)
    return LinearSegmentedColormap.from_list("complexity", source(np.linspace(low, high, 256)))


def gradient(palette: Palette, stops: int = 9) -> list[str]:
    """Colours of the complexity map from easy to hard, as hex."""
    from matplotlib.colors import to_hex

    return [to_hex(color) for color in complexity_map(palette)(np.linspace(0, 1, stops))]


class Panel(NamedTuple):
    """One view of a cloud; ``fog`` is how far its rearmost points fade into the paper."""

    title: str
    points: NDArray[np.float64]  # (P, 3), projected
    colors: NDArray[np.float64]  # (P, 3)
    fog: float
    reach: float  # half the height of the view, the same in all panels of a cloud


def titles(data: ex.Explained) -> list[str]:
    """The panels there are: no complexity where the method predicts none."""
    return [MASKED, REBUILT] if data.gc is None else [COMPLEXITY, MASKED, REBUILT]


def panels(data: ex.Explained, cloud: int, palette: Palette) -> list[Panel]:
    """The panels of a cloud, in the order of :func:`titles`."""
    from matplotlib.colors import to_rgb

    by_state = (palette.visible, palette.random, palette.hard)  # in the order of the states
    state_colors = np.array([to_rgb(color) for color in by_state])
    points, state = data.points[cloud], ex.point_state(data, cloud)
    rebuilt, rebuilt_state = ex.rebuilt_points(data, cloud)
    middle, radius = frame(points)
    whole = view((points - middle) / radius)
    seen = state == ex.VISIBLE
    built = view((rebuilt - middle) / radius)
    mixed = np.concatenate([whole[seen], built])
    tints = np.concatenate([state_colors[state[seen]], state_colors[rebuilt_state]])
    reach = min(max(REACH, 1.04 * float(_height_of(mixed).max())), FARTHEST)
    found = [
        Panel(MASKED, whole, state_colors[state], 0.55, reach),
        Panel(REBUILT, mixed, tints, 0.55, reach),
    ]
    if data.gc is not None:
        tint = complexity_map(palette)(ex.point_complexity(data, cloud))[:, :3]
        # little fog: here the tint itself is the message
        found.insert(0, Panel(COMPLEXITY, whole, tint, 0.25, reach))
    return found


def _height_of(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Half the height (P,) of the smallest view that shows each projected point."""
    return np.maximum(np.abs(points[:, 1]), np.abs(points[:, 0]) / ASPECT)


def strays(data: ex.Explained, cloud: int) -> int:
    """Rebuilt points too far off to be shown with the cloud; no panel draws them."""
    middle, radius = frame(data.points[cloud])
    rebuilt, _ = ex.rebuilt_points(data, cloud)
    return int((_height_of(view((rebuilt - middle) / radius)) > EDGE * FARTHEST).sum())


def frame(points: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """Middle (3,) of the bounding box and the largest distance from it: the view of all panels."""
    middle = (points.max(axis=0) + points.min(axis=0)) / 2
    radius = float(np.sqrt(((points - middle) ** 2).sum(axis=1).max()))
    return middle.astype(np.float32), radius or 1.0


def draw(
    axes: Any,
    panel: Panel,
    palette: Palette,
    *,
    reference: int,
    marks: Sequence[str] | None = None,
    pixels: bool = False,
) -> None:
    """A panel into ``axes``; a cloud of ``reference`` points sets the dot size.

    ``marks`` are the markers of the points, if they are not all circles. With ``pixels`` the points
    are an image in SVG too, which otherwise describes each of them.
    """
    from matplotlib.colors import to_rgb

    # a dot at the border would be cut in two
    shown = np.flatnonzero(_height_of(panel.points) <= EDGE * panel.reach)
    order = shown[np.argsort(panel.points[shown, 2], kind="stable")]
    points, colors = panel.points[order], panel.colors[order]
    nearness = np.clip((points[:, 2] + 1.0) / 2.0, 0.0, 1.0)[:, None]
    paper = np.array(to_rgb(palette.paper))
    tint = colors + (paper - colors) * panel.fog * (1.0 - nearness)
    box = axes.get_window_extent()
    unit = min(box.width, box.height) * 72 / axes.figure.dpi / (2 * panel.reach)  # pt a radius
    diameter = unit * 1.75 / np.sqrt(reference)
    size = (diameter * (0.62 + 0.5 * nearness[:, 0])) ** 2
    drawn = axes.scatter(
        points[:, 0], points[:, 1], s=size, c=np.clip(tint, 0, 1), marker="o",
        edgecolors=np.clip(tint * 0.80, 0, 1), linewidths=0.07 * diameter,
    )  # fmt: skip
    drawn.set_rasterized(pixels)
    if marks is not None:
        drawn.set_paths([_outline(marks[at]) for at in order.tolist()])
    axes.set_axis_off()
    short = min(box.width, box.height)  # equal scale on both axes, whatever the box's shape
    axes.set_xlim(-panel.reach * box.width / short, panel.reach * box.width / short)
    axes.set_ylim(-panel.reach * box.height / short, panel.reach * box.height / short)


@functools.cache
def _outline(mark: str) -> Any:
    """The path of a marker, as a scatter draws it."""
    from matplotlib.markers import MarkerStyle

    style = MarkerStyle(mark)
    return style.get_path().transformed(style.get_transform())


def panel_images(
    data: ex.Explained, cloud: int, palette: Palette, pixels: tuple[int, int] = (640, 500)
) -> list[bytes]:
    """The panels of a cloud as transparent WebP images, for a page."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    images = []
    for panel in panels(data, cloud, palette):
        fig = Figure(figsize=(pixels[0] / 160, pixels[1] / 160), dpi=160)
        axes = fig.add_axes((0, 0, 1, 1))
        draw(axes, panel, palette, reference=data.points.shape[1])
        fig.patch.set_alpha(0.0)
        canvas: Any = FigureCanvasAgg(fig)
        canvas.draw()
        image, buffer = Image.fromarray(np.asarray(canvas.buffer_rgba())), io.BytesIO()
        image.save(buffer, format="WEBP", quality=78, alpha_quality=80, method=3)
        images.append(buffer.getvalue())
    return images


def explain_figure(data: ex.Explained, palette: Palette, clouds: Sequence[int]) -> Figure:
    """The picture that explains the method: a row a cloud, its panels, one legend."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.lines import Line2D

    rows = len(clouds)
    fig = figure(9.0, 2.3 * rows + 0.8)
    fig.set_layout_engine("none")
    top, bottom = 1 - 0.38 / fig.get_figheight(), 0.45 / fig.get_figheight()
    step = (top - bottom) / rows
    for row, cloud in enumerate(clouds):
        for column, panel in enumerate(panels(data, cloud, palette)):
            box = (0.06 + column * 0.313, top - (row + 1) * step, 0.31, step)
            axes = fig.add_axes(box)
            draw(axes, panel, palette, reference=data.points.shape[1])
            if row == 0:
                fig.text(box[0] + 0.155, top + 0.1 / fig.get_figheight(), panel.title,
                         ha="center", fontsize=10.5, fontweight="bold",
                         color=palette.ink)  # fmt: skip
        fig.text(0.025, top - (row + 0.5) * step, data.name(cloud), rotation=90, va="center",
                 ha="center", fontsize=10, color=palette.muted)  # fmt: skip
    if data.gc is not None:
        bar = fig.add_axes((0.115, 0.26 / fig.get_figheight(), 0.2, 0.1 / fig.get_figheight()))
        scale = fig.colorbar(ScalarMappable(cmap=complexity_map(palette)), cax=bar,
                             orientation="horizontal", ticks=[])  # fmt: skip
        scale.outline.set_visible(False)
        for place, text, side in ((0.105, "easy", "right"), (0.325, "hard", "left")):
            fig.text(place, 0.31 / fig.get_figheight(), text, ha=side, va="center", fontsize=9,
                     color=palette.muted)  # fmt: skip
    roles = [("visible", "visible"), ("hard", "masked: hard"), ("random", "masked: random")]
    handles = [
        Line2D([], [], marker="o", linestyle="none", color=getattr(palette, role), label=text)
        for role, text in roles
    ]
    fig.legend(handles=handles, loc="lower center", ncols=3, frameon=False, fontsize=9,
               bbox_to_anchor=(0.69, 0.08 / fig.get_figheight()), labelcolor=palette.muted,
               handletextpad=0.1, columnspacing=1.4)  # fmt: skip
    return fig
