"""The clouds that explain a method: images for light and dark, figure files, the orbit view."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from sa3d.viz import clouds, style
from sa3d.viz import explain as ex

SHOWN = 6  # clouds in the page; fewer in the figure file
IN_FILE = 4


@dataclass(frozen=True)
class Picture:
    """A cloud of the explaining picture: its panels for light and dark, as data addresses."""

    name: str
    light: list[str]
    dark: list[str]


def pictures(data: ex.Explained) -> list[Picture]:
    """The clouds as images, at most :data:`SHOWN`."""
    found = []
    for cloud in range(min(len(data), SHOWN)):
        light, dark = (
            [_address(image) for image in clouds.panel_images(data, cloud, palette)]
            for palette in (style.LIGHT, style.DARK)
        )
        found.append(Picture(data.name(cloud), light, dark))
    return found


def strays(data: ex.Explained) -> int:
    """Rebuilt points of the shown clouds that no picture can show: they lie too far off."""
    return sum(clouds.strays(data, cloud) for cloud in range(min(len(data), SHOWN)))


def hard_share(data: ex.Explained) -> str:
    """How much of the shown masks was chosen for being hard, in words."""
    hard = np.unique((data.hard & data.mask).sum(axis=1))
    counts = f"{hard[0]}" if len(hard) == 1 else f"{hard[0]} to {hard[-1]}"
    return f"{counts} of the {int(data.mask[0].sum())} masked patches of a cloud"


def height_correlation(data: ex.Explained) -> float | None:
    """Mean over clouds of Spearman's correlation of predicted complexity with patch height.

    A predictor sees positions, so it may rank by place alone; this says how far it does.
    """
    from scipy.stats import spearmanr

    if data.gc is None:
        return None
    height = data.centers[:, :, 1]
    found = [spearmanr(scores, y).statistic for scores, y in zip(data.gc, height, strict=True)]
    return float(np.mean(found))


def _address(image: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(image).decode("ascii")


def figure_files(data: ex.Explained) -> dict[str, bytes]:
    """The picture as files, for light and dark paper."""
    chosen = range(min(len(data), IN_FILE))
    return {
        f"figures/{name}.png": style.png(
            clouds.explain_figure(data, palette, chosen), dpi=150, background=palette.paper
        )
        for name, palette in (("method", style.LIGHT), ("method-dark", style.DARK))
    }


def viewer(data: ex.Explained) -> str:
    """What the orbit view draws, as JSON: int16 coordinates and one byte a point, base64."""
    shown = []
    for cloud in range(min(len(data), SHOWN)):
        middle, radius = clouds.frame(data.points[cloud])
        rebuilt, states = ex.rebuilt_points(data, cloud)
        shown.append(
            {
                "name": data.name(cloud),
                "points": _packed((data.points[cloud] - middle) / radius),
                "rank": _bytes(ex.point_complexity(data, cloud) * 255)
                if data.gc is not None
                else "",
                "state": _bytes(ex.point_state(data, cloud)),
                "rebuilt": _packed((rebuilt - middle) / radius),
                "rebuiltState": _bytes(states),
            }
        )
    # "<" could end the script element that holds this
    return json.dumps(shown, separators=(",", ":")).replace("<", "\\u003c")


def _packed(points: Any) -> str:
    whole = np.clip(np.rint(points * 16384), -32768, 32767).astype("<i2")
    return base64.b64encode(whole.tobytes()).decode("ascii")


def _bytes(values: Any) -> str:
    return base64.b64encode(np.rint(values).astype(np.uint8).tobytes()).decode("ascii")
