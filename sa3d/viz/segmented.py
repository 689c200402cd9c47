"""``parts.npz``: a few test clouds with true and predicted parts, and how they are drawn.

The names of its arrays are defined here, for its writer and its readers. E clouds, N points,
C categories, P parts of all categories.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from sa3d.errors import DataError
from sa3d.utils.files import write_whole
from sa3d.viz.clouds import REACH, Panel, draw, frame, view
from sa3d.viz.style import Palette, figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILE: Final = "parts.npz"

POINTS: Final = "points"  # (E, N, 3) float32, y up
TRUTH: Final = "truth"  # (E, N) integer
PREDICTED: Final = "predicted"  # (E, N) integer
LABELS: Final = "labels"  # (E,) integer: the category
NAMES: Final = "names"  # 0-d string: JSON of class_names, part_names, class_parts

# The colours of Okabe and Ito, which colour-blind readers tell apart, on light and dark paper;
# of a category with more parts the later ones take the same colours again.
COLORS: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442",
                 "#8f8f8f")  # fmt: skip
FOG = 0.3


@dataclass(frozen=True)
class Segmented:
    """The arrays of ``parts.npz``; see the constants above for shapes."""

    points: NDArray[np.float32]
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    part_names: tuple[str, ...]
    class_parts: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.points)

    def name(self, cloud: int) -> str:
        """Category of a cloud."""
        return self.class_names[int(self.labels[cloud])]

    def parts(self, cloud: int) -> tuple[int, ...]:
        """The parts that a cloud may contain."""
        return self.class_parts[int(self.labels[cloud])]

    def wrong(self, cloud: int) -> NDArray[np.bool_]:
        """(N,) which points have another part than the true one."""
        found: NDArray[np.bool_] = self.truth[cloud] != self.predicted[cloud]
        return found


def save_segmented(path: Path, data: Segmented) -> None:
    """Write ``data``.

    Raises:
        WriteError: full disk, no permission.
    """
    names = [data.class_names, data.part_names, data.class_parts]
    arrays: dict[str, Any] = {
        POINTS: data.points.astype(np.float32),
        TRUTH: data.truth.astype(np.int32),
        PREDICTED: data.predicted.astype(np.int32),
        LABELS: data.labels.astype(np.int64),
        NAMES: np.array(json.dumps(names)),
    }
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    write_whole(path, packed.getbuffer())


def load_segmented(path: Path) -> Segmented:
    """The arrays of ``parts.npz``, checked against each other.

    Raises:
        DataError: the file is missing, unreadable, or its arrays do not fit together.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            classes, parts, members = json.loads(str(stored[NAMES]))
            data = Segmented(
                points=np.asarray(stored[POINTS], dtype=np.float32),
                truth=np.asarray(stored[TRUTH], dtype=np.int64),
                predicted=np.asarray(stored[PREDICTED], dtype=np.int64),
                labels=np.asarray(stored[LABELS], dtype=np.int64),
                class_names=tuple(map(str, classes)),
                part_names=tuple(map(str, parts)),
                class_parts=tuple(tuple(map(int, each)) for each in members),
            )
    except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot read {path}: {error}") from None
    shape = data.points.shape[:2]
    fits = (
        data.points.shape == (*shape, 3)
        and shape == data.truth.shape == data.predicted.shape
        and data.labels.shape == shape[:1]
        and len(data.class_parts) == len(data.class_names)
        and bool(np.isin(data.labels, np.arange(len(data.class_names))).all())
        and all(
            np.isin([data.truth[cloud], data.predicted[cloud]], data.parts(cloud)).all()
            for cloud in range(len(data))
        )
    )
    if not fits or not np.isfinite(data.points).all():
        raise DataError(f"arrays of {path} do not fit together")
    return data


def color_of(data: Segmented, cloud: int, part: int) -> str:
    """The colour of a part: by its place among the parts of the cloud's category."""
    return COLORS[data.parts(cloud).index(part) % len(COLORS)]


@dataclass(frozen=True)
class View:
    """One view of a cloud: ``parts`` (N,) colours it, ``wrong`` (N,) points get a dot."""

    parts: NDArray[np.int64]
    wrong: NDArray[np.bool_]


def truth_view(data: Segmented, cloud: int) -> View:
    """The true parts, without dots."""
    return View(data.truth[cloud], np.zeros(data.truth.shape[1], dtype=np.bool_))


def predicted_view(data: Segmented, cloud: int) -> View:
    """The predicted parts, wrong points with a dot."""
    return View(data.predicted[cloud], data.wrong(cloud))


def draw_view(axes: Any, data: Segmented, cloud: int, shown: View, palette: Palette) -> None:
    """A view into ``axes``. Dots are drawn over all points: none is hidden behind the shape."""
    from matplotlib.colors import to_rgb

    middle, radius = frame(data.points[cloud])
    points = view((data.points[cloud] - middle) / radius)
    tints = {part: to_rgb(color_of(data, cloud, part)) for part in data.parts(cloud)}
    colors = np.array([tints[part] for part in shown.parts.tolist()])
    draw(axes, Panel("", points, colors, FOG, REACH), palette, reference=len(points))
    sizes = axes.collections[-1].get_sizes()
    marked = points[shown.wrong]
    axes.scatter(marked[:, 0], marked[:, 1], s=0.13 * float(np.mean(sizes)), marker="o",
                 color=palette.ink, linewidths=0)  # fmt: skip


def view_image(
    data: Segmented,
    cloud: int,
    shown: View,
    palette: Palette,
    pixels: tuple[int, int] = (480, 400),
) -> bytes:
    """A view as transparent WebP image, for a page."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    fig = Figure(figsize=(pixels[0] / 160, pixels[1] / 160), dpi=160)
    draw_view(fig.add_axes((0, 0, 1, 1)), data, cloud, shown, palette)
    fig.patch.set_alpha(0.0)
    canvas: Any = FigureCanvasAgg(fig)
    canvas.draw()
    image, buffer = Image.fromarray(np.asarray(canvas.buffer_rgba())), io.BytesIO()
    image.save(buffer, format="WEBP", quality=78, alpha_quality=80, method=3)
    return buffer.getvalue()


def segmented_figure(
    variants: Sequence[tuple[str, Segmented]], clouds: Sequence[int], palette: Palette
) -> Figure:
    """A row a cloud: truth, then what each variant ``(label, data)`` predicts."""
    first = variants[0][1]
    columns, rows = 1 + len(variants), len(clouds)
    fig = figure(2.3 * columns + 1.5, 2.0 * rows + 0.3)
    fig.set_layout_engine("none")
    high, wide = fig.get_figheight(), fig.get_figwidth()
    for row, cloud in enumerate(clouds):
        bottom = (2.0 * (rows - row - 1)) / high
        for column in range(columns):
            data = first if column == 0 else variants[column - 1][1]
            shown = (predicted_view if column else truth_view)(data, cloud)
            left = (1.5 + 2.3 * column) / wide
            draw_view(fig.add_axes((left, bottom, 2.3 / wide, 2.0 / high)), data, cloud, shown,
                      palette)  # fmt: skip
            if row == 0:
                title = variants[column - 1][0] if column else "truth"
                fig.text(left + 1.15 / wide, 1 - 0.2 / high, title, ha="center", fontsize=9,
                         fontweight="bold", color=palette.ink)  # fmt: skip
        middle = bottom + 1.0 / high
        parts = first.parts(cloud)
        top = middle + 0.09 * len(parts) / high
        fig.text(0.1 / wide, top + 0.1 / high, first.name(cloud), fontsize=9.5,
                 fontweight="bold", color=palette.ink)  # fmt: skip
        for place, part in enumerate(parts):
            at = top - 0.18 * (place + 0.3) / high
            fig.text(0.1 / wide, at, "●", color=color_of(first, cloud, part), fontsize=9,
                     va="center")  # fmt: skip
            fig.text(0.26 / wide, at, short_name(first, cloud, part), color=palette.muted,
                     fontsize=8, va="center")  # fmt: skip
    return fig


def short_name(data: Segmented, cloud: int, part: int) -> str:
    """Name of a part without that of its category, which stands beside it."""
    name, category = data.part_names[part], data.name(cloud)
    rest = name.removeprefix(category).lstrip(" :/._-")
    return rest or name
