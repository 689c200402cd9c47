"""Galleries: what is on paper, what is on a page, and what grey paper tells apart."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from sa3d.viz import style
from sa3d.viz.embedding import Plane, map_figure, map_page, spread_out
from sa3d.viz.gallery import (
    MOST_TURNED,
    Gallery,
    Key,
    Shot,
    Strip,
    gallery_figure,
    gallery_page,
    shortened,
)  # fmt: skip

POINTS = np.random.default_rng(0).normal(size=(60, 3))


def grey(color: str) -> float:
    """Lightness L* of a colour, 0 to 100."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    y = float(linear @ [0.2126, 0.7152, 0.0722])
    return 116 * y ** (1 / 3) - 16


@pytest.mark.parametrize("palette", [style.LIGHT, style.DARK])
def test_states_differ_in_lightness(palette: style.Palette) -> None:
    values = [grey(c) for c in (palette.paper, palette.visible, palette.random, palette.hard)]
    assert min(abs(a - b) for a, b in itertools.combinations(values, 2)) > 12


def test_words_of_a_figure() -> None:
    shots = [Shot(POINTS, "#2b6cb8", "a.stl", "folder", strong=True),
             Shot(POINTS, np.full((60, 3), 0.5), "b.stl", "0.90", bar=0.9)]  # fmt: skip
    shown = Gallery(
        [Strip(shots, "row")], "Title", ["one", "two"], [Key("key", "#000000", 2)], True
    )
    fig = gallery_figure(shown, style.LIGHT)
    texts = {text.get_text() for text in fig.texts}
    assert texts == {"Title", "one", "two", "row", "a.stl", "folder", "b.stl", "0.90", "easy",
                     "hard"}  # fmt: skip
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["key"]
    assert style.png(fig, dpi=40).startswith(b"\x89PNG")


def test_markers_follow_their_points() -> None:
    points = np.array([[0, 0, z] for z in np.linspace(1, -1, 6)])  # nearest first
    marks = np.array([0, 1, 2, 0, 1, 2])
    fig = gallery_figure(
        Gallery([Strip([Shot(points, np.zeros((6, 3)), marks=marks)])]), style.LIGHT
    )
    (drawn,) = fig.axes[0].collections
    corners = [len(path.vertices) for path in drawn.get_paths()]
    circle, square, triangle = corners[5], corners[4], corners[3]  # drawn from the rear
    assert corners == [triangle, square, circle, triangle, square, circle]
    assert len({circle, square, triangle}) == 3


def test_a_page_asks_nobody() -> None:
    page = gallery_page(Gallery([Strip([Shot(POINTS, "#2b6cb8", "<b>x</b>")])], "<i>T</i>"))
    head = page.partition("<script")[0]
    assert "<title>&lt;i&gt;T&lt;/i&gt;</title>" in head
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=\"?(https?:)?//", page)
    drawn = page[page.rindex("Plotly.newPlot(") :]
    assert "&lt;b&gt;x" in drawn
    assert "<b>x" not in drawn
    assert r"\u003cb\u003ex" not in drawn


def test_a_page_says_what_it_leaves_out() -> None:
    row = Strip([Shot(POINTS, "#2b6cb8")] * 6)
    few = gallery_page(Gallery([row, row]))
    many = gallery_page(Gallery([row] * 5))
    assert "a page can turn no more" not in few
    assert "12 of 30 views: a page can turn no more at once" in many
    assert f"{MOST_TURNED} of 18 views" in gallery_page(Gallery([Strip([*row.shots] * 3)]))


def test_shortened() -> None:
    assert shortened("a.stl") == "a.stl"
    assert shortened("0123456789abcdef", 10) == "012…abcdef"
    assert len(shortened("x" * 99, 28)) == 28


def test_far_apart_places() -> None:
    places = np.array([[0.0, 0], [0.1, 0], [10, 0], [0, 10], [10, 10], [5, 5]])
    assert sorted(spread_out(places, 5)) in ([0, 2, 3, 4, 5], [1, 2, 3, 4, 5])
    assert sorted(spread_out(places)) == list(range(6))


def test_a_map_names_classes_and_clouds() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 2], 6)
    ids = tuple(f"id{at}" for at in range(12))
    thumbnails = [(0, POINTS), (7, POINTS)]
    places = rng.normal(size=(12, 2))
    shown = Plane(places, labels, ("cube", "none", "<ball>"), ids, thumbnails, "by hand")
    fig = map_figure(shown, style.LIGHT, "Map")
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["cube", "<ball>"]
    assert len(fig.axes) == 3, "the map and two thumbnails"
    assert {text.get_text() for text in fig.texts} == {"Map", "by hand"}
    page = map_page(shown, style.LIGHT, "Map")
    drawn = page[page.rindex("Plotly.newPlot(") :]
    assert "id11" in drawn
    assert "&lt;ball&gt;" in drawn
