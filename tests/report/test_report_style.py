from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from sa3d.viz import style

# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
}  # fmt: skip
XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]


def linear(color: str) -> np.ndarray:
    rgb = np.array(to_rgb(color))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    x, y, z = (XYZ @ np.clip(rgb, 0, 1)) / [0.9505, 1.0, 1.089]
    f = [np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z)]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("palette", [style.LIGHT, style.DARK], ids=["light", "dark"])
def test_variants_are_told_apart_whatever_ones_colour_vision(palette):
    colors = [getattr(palette, role) for role in (*style.VARIANTS, "untrained")]
    assert len(colors) == 7
    for matrix in VISION.values():
        seen = [lab(np.array(matrix) @ linear(color)) for color in colors]
        assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 12


@pytest.mark.parametrize("palette", [style.LIGHT, style.DARK], ids=["light", "dark"])
def test_variants_stand_out_from_the_paper(palette):
    def luminance(color: str) -> float:
        return float(linear(color) @ XYZ[1]) + 0.05

    paper = luminance(palette.paper)
    for role in (*style.VARIANTS, "untrained"):
        ink = luminance(getattr(palette, role))
        assert max(ink, paper) / min(ink, paper) >= 3  # WCAG 2.1, graphical objects


def test_the_reference_comes_first_and_random_weights_are_grey():
    roles = style.variant_roles(["a", "b", "s", "c"], "b", ["s"])
    assert roles == {"b": "variant0", "a": "variant1", "s": "untrained", "c": "variant2"}
    assert style.variant_roles(["a", "s"], "s", ["s"]) == {"a": "variant1", "s": "untrained"}


def test_beyond_six_variants_none_takes_the_colour_of_the_reference():
    roles = style.variant_roles([str(n) for n in range(9)], "0", [])
    assert [name for name, role in roles.items() if role == "variant0"] == ["0"]
    assert roles["6"] == "variant1"


def test_marker_colours_are_all_different():
    assert len(set(vars(style.THEMED).values())) == len(vars(style.THEMED))
    assert all(len(color) == 7 for color in vars(style.THEMED).values())
