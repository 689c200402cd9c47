"""Surfaces of VRML files whose area is known by hand.

Named by what the file holds: outlines that a fan of triangles does not cover, names given twice,
comments with brackets, nodes that show one of several contents, mirrored shapes.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sa3d.data.polygons import triangulate
from sa3d.data.readers.vrml import Surface, VrmlError, read_vrml

# outline in the plane, its area
OUTLINES: dict[str, tuple[list[tuple[float, float]], float]] = {
    "notch on top": ([(3, 2), (2, 2), (2, 1), (1, 1), (1, 2), (0, 2), (0, 0), (3, 0)], 5),
    "L seen from its far end": ([(2, 0), (2, 1), (1, 1), (1, 2), (0, 2), (0, 0)], 3),
    "arrow head, first at a wing": ([(2, 0), (1, 1), (2, 2), (0, 1)], 1),
    "comb": (
        [
            *[(0, 0), (5, 0), (5, 3), (4, 3), (4, 1), (3, 1)],
            *[(3, 3), (2, 3), (2, 1), (1, 1), (1, 3), (0, 3)],
        ],
        11,
    ),
    "hole by a bridge": (
        [(0, 0), (4, 0), (4, 4), (0, 4), (0, 0), (1, 1), (1, 3), (3, 3), (3, 1), (1, 1)],
        12,
    ),
    "two holes by bridges": (
        [
            *[(0, 0), (1, 1), (1, 2), (2, 2), (2, 1), (1, 1), (0, 0)],
            *[(7, 0), (6, 1), (4, 1), (4, 2), (6, 2), (6, 1), (7, 0), (7, 3), (0, 3)],
        ],
        18,
    ),
    "square": ([(0, 0), (2, 0), (2, 2), (0, 2)], 4),
    "corners on straight edges": (
        [(0, 0), (1, 0), (2, 0), (2, 1), (2, 2), (1, 2), (0, 2), (0, 1)],
        4,
    ),
    "corners written twice": ([(0, 0), (0, 0), (2, 0), (2, 2), (2, 2), (2, 2), (0, 2), (0, 0)], 4),
    "inner corner written twice": (
        [(2, 0), (2, 1), (1, 1), (1, 1), (1, 2), (0, 2), (0, 0)],
        3,
    ),
    "edge walked there and back": ([(0, 0), (2, 0), (2, 2), (0, 2), (0, 1), (-1, 1), (0, 1)], 4),
    "a line": ([(0, 0), (1, 1), (2, 2), (3, 3), (1, 1)], 0),
    "two points": ([(0, 0), (1, 0), (0, 0), (1, 0)], 0),
    "one point": ([(1, 1), (1, 1), (1, 1), (1, 1)], 0),
}


def area_of(vertices: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def newell(points: np.ndarray) -> np.ndarray:
    """Vector area of an outline, by the sum over its edges."""
    return np.cross(points, np.roll(points, -1, axis=0)).sum(0) / 2


def shape(points: str, index: str, extra: str = "", name: str = "") -> str:
    name = f"DEF {name} " if name else ""
    return (
        f"{name}Shape {{ geometry IndexedFaceSet {{ {extra} coord Coordinate {{ point [{points}] }}"
        f" coordIndex [{index}] }} }}\n"
    )


def outline_shape(points: np.ndarray | list[tuple[float, float]], extra: str = "") -> str:
    rows = np.asarray(points, dtype=float)
    rows = np.hstack([rows, np.zeros((len(rows), 3 - rows.shape[1]))])
    text = ", ".join(" ".join(repr(float(x)) for x in row) for row in rows)
    return shape(text, " ".join(map(str, range(len(rows)))) + " -1", extra)


def square(side: float, name: str = "") -> str:
    return shape(f"0 0 0 {side} 0 0 {side} {side} 0 0 {side} 0", "0 1 2 3 -1", name=name)


def read(text: str) -> Surface:
    return read_vrml(("#VRML V2.0 utf8\n" + text).encode())


def area(text: str) -> float:
    surface = read(text)
    return area_of(surface.vertices, surface.faces)


@pytest.mark.parametrize("name", OUTLINES)
def test_outlines_have_the_area_that_they_enclose(name: str) -> None:
    """From every first corner and in both directions."""
    points, wanted = OUTLINES[name]
    other = square(3)  # a file of nothing but lines has no face
    for start in range(len(points)):
        turned = points[start:] + points[:start]
        for outline in (turned, turned[::-1]):
            text = outline_shape(outline, "convex FALSE")
            assert area(text + other) - 9 == pytest.approx(wanted, abs=1e-12)


@given(st.sampled_from(sorted(OUTLINES)), st.integers(0, 2**32 - 1))
def test_outlines_anywhere_in_space_are_covered_once_and_keep_their_winding(
    name: str, seed: int
) -> None:
    points, wanted = OUTLINES[name]
    rng = np.random.default_rng(seed)
    scale = float(10.0 ** rng.uniform(-4, 4))
    flat = np.column_stack([np.asarray(points, dtype=float), np.zeros(len(points))])
    vertices = (Rotation.random(rng=rng).apply(flat) + rng.normal(size=3)) * scale
    corners, sizes = np.arange(len(points)), np.array([len(points)])
    faces, polygon = triangulate(vertices, corners, sizes)
    assert (polygon == 0).all()
    assert area_of(vertices, faces) == pytest.approx(wanted * scale**2, abs=1e-5 * scale**2)
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    total = np.cross(b - a, c - a).sum(0) / 2
    np.testing.assert_allclose(total, newell(vertices), atol=1e-5 * scale**2)


@given(st.integers(3, 40), st.integers(0, 2**32 - 1))
def test_stars_of_any_shape_have_the_area_of_the_shoelace_rule(corners: int, seed: int) -> None:
    """Outlines around a point they see whole, begun at any corner: concave without crossings."""
    rng = np.random.default_rng(seed)
    angles = (np.arange(corners) + rng.uniform(0, 0.9, corners)) / corners * 2 * np.pi
    radius = rng.uniform(0.1, 1.0, corners)
    points = np.column_stack([np.cos(angles), np.sin(angles)]) * radius[:, None]
    x, y = points.T
    shoelace = abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
    if corners == 3 or np.diff(angles, append=angles[0] + 2 * np.pi).max() >= np.pi:
        return  # the centre may lie outside
    vertices = np.column_stack([points, np.zeros(corners)])
    faces, _ = triangulate(vertices, np.arange(corners), np.array([corners]))
    assert area_of(vertices, faces) == pytest.approx(shoelace, rel=1e-5)


def test_many_polygons_keep_their_order_and_owners() -> None:
    """A triangle, a notch, an edge, a square, nothing, an L: each where it stood."""
    outlines = [
        [(0, 0), (2, 0), (0, 2)],
        OUTLINES["notch on top"][0],
        [(0, 0), (1, 0)],
        OUTLINES["square"][0],
        [],
        OUTLINES["L seen from its far end"][0],
    ]
    flat = np.array([point for outline in outlines for point in outline], dtype=float)
    vertices = np.column_stack([flat, np.zeros(len(flat))])
    sizes = np.array([len(outline) for outline in outlines])
    faces, owner = triangulate(vertices, np.arange(len(flat)), sizes)
    assert (np.diff(owner) >= 0).all()
    areas = [area_of(vertices, faces[owner == number]) for number in range(len(outlines))]
    assert areas == pytest.approx([2, 5, 0, 4, 0, 3])
    ends = np.cumsum(sizes)
    assert all(
        ends[o] - sizes[o] <= row.min() and row.max() < ends[o]
        for row, o in zip(faces, owner, strict=True)
    )


def test_bent_polygons_are_cut_as_their_shadow_along_the_normal() -> None:
    """A notch with its inner corners lifted: the shadow has the flat one's area, and the result
    turns with the polygon."""
    flat = np.column_stack([np.asarray(OUTLINES["notch on top"][0], dtype=float), np.zeros(8)])
    bent = flat + np.array([[0, 0, h] for h in (0, 0.1, 0.3, 0.3, 0.1, 0, 0, 0)])
    corners, sizes = np.arange(8), np.array([8])
    faces, _ = triangulate(bent, corners, sizes)
    a, b, c = (bent[faces[:, i]] for i in range(3))
    crosses = np.cross(b - a, c - a)
    np.testing.assert_allclose(crosses.sum(0) / 2, newell(bent), atol=1e-12)
    assert (crosses @ newell(bent) > 0).all()
    turn = Rotation.from_euler("xyz", (0.3, 1.1, -2.0))
    again, _ = triangulate(turn.apply(bent), corners, sizes)
    assert area_of(turn.apply(bent), again) == pytest.approx(area_of(bent, faces))


def test_outline_in_the_shape_of_an_8_is_finite() -> None:
    """No polygon by the standard; its area is at most that of both lobes."""
    found = area(outline_shape([(0, 0), (1, 1), (1, 0), (0, 1)]) + square(3)) - 9
    assert 0 <= found <= 0.5 + 1e-12


# --- names, comments, contents shown -----------------------------------------------------


def test_use_means_the_last_def_before_it() -> None:
    text = square(1, "A") + "Group { children [ USE A ] }\n" + square(2, "A")
    assert area(text) == pytest.approx(1 + 1 + 4)
    assert area(text + "Group { children USE A }") == pytest.approx(1 + 1 + 4 + 4)


def test_use_in_a_hidden_place_is_what_the_name_meant_there() -> None:
    text = f"""Switch {{ whichChoice 1 choice [ {square(1, "A")} Group {{ children [USE A] }} ] }}
        Switch {{ choice [ {square(3, "A")} ] }}"""
    assert area(text) == pytest.approx(1)


def test_coordinates_by_a_name_given_twice() -> None:
    faces = "Shape {{ geometry IndexedFaceSet {{ coord {} coordIndex [0 1 2 -1] }} }}"
    text = "".join(
        faces.format(coord)
        for coord in (
            "DEF C Coordinate { point [0 0 0, 2 0 0, 0 2 0] }",
            "USE C",
            "DEF C Coordinate { point [0 0 0, 4 0 0, 0 4 0] }",
            "USE C",
        )
    )
    assert area(text) == pytest.approx(2 + 2 + 8 + 8)


def test_use_before_its_def_is_refused() -> None:
    with pytest.raises(VrmlError, match="USE A without a DEF of that name before it"):
        read("Group { children [ USE A ] }\n" + square(1, "A"))


@pytest.mark.parametrize(
    "comment",
    ["# ]", "# [", "# } {", '# "', "# it's ]] USE A [", "# \\", "#", "# -1 7 7 7"],
)
@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_comments_inside_lists(comment: str, end: str) -> None:
    points = f"0 0 0 {comment}{end} 2 0 0, 2 2 0 {comment}{end}{comment}{end} 0 2 0 {comment}{end}"
    index = f"{comment}{end}0 1 2 {comment}{end} 3 -1 {comment}{end}"
    assert area(shape(points, index)) == pytest.approx(4)
    shown = f"Group {{ children [ {comment}{end} USE A {comment}{end} USE A ] }}"
    assert area(square(1, "A") + shown) == pytest.approx(3)


def test_list_that_only_a_comment_closes_is_truncated() -> None:
    with pytest.raises(VrmlError):
        read("Shape { geometry IndexedFaceSet { coordIndex [0 1 2 -1 # ] }\n")


@pytest.mark.parametrize(
    ("which", "wanted"), [("0", 1), ("1", 4), ("2", 9), ("3", None), ("-1", None)]
)
def test_switch(which: str, wanted: float | None) -> None:
    text = f"""{square(2, "A")}
        Switch {{ whichChoice {which} choice [ {square(1)} USE A {square(3)} ] }}"""
    assert area(text) - 4 == pytest.approx(wanted or 0)


def test_level_of_detail_shows_the_finest() -> None:
    assert area(f"LOD {{ range [1, 9] level [ {square(2)} {square(1)} ] }}") == pytest.approx(4)


@pytest.mark.parametrize(
    ("node", "says"),
    [
        ('Inline { url "other.wrl" }', "Inline"),
        ("Shape { geometry Box { size 1 1 1 } }", "has a Box"),
        ("Shape { geometry Extrusion { } }", "has a Extrusion"),
        ("Transform { rotation 0 0 1 -1e999 children [ ] }", "rotation is not finite"),
        ("Transform { translation 1e999 0 0 }", "translation is not finite"),
        ("Switch { whichChoice 1e999 }", "whichChoice is not finite"),
        ("Group { children [ USE ] }", "list of nodes"),
    ],
)
def test_what_would_make_half_a_surface_is_refused(node: str, says: str) -> None:
    with pytest.raises(VrmlError, match=says):
        read(square(1) + node)


# --- transforms and winding --------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ("scale 2 3 1", 6),
        ("scale -2 3 1", 6),
        ("scale 1 1 5", 1),
        ("center 7 8 9 scale 2 2 2", 4),
        # stretched by 3 along the diagonal of the square: the area triples
        ("scale 3 1 1 scaleOrientation 0 0 1 0.7853981633974483", 3),
        ("scale 1 1 3 scaleOrientation 1 0 0 1.5707963267948966", 3),
        ("rotation 1 2 3 0.5 translation 4 5 6", 1),
    ],
)
def test_transforms_scale_the_area(fields: str, wanted: float) -> None:
    assert area(f"Transform {{ {fields} children [ {square(1)} ] }}") == pytest.approx(wanted)


def test_transforms_in_each_other_stretch_what_is_inside() -> None:
    """Turned by a right angle inside, then stretched along x: what was y becomes longer."""
    inner = "Transform { rotation 0 0 1 1.5707963267948966 scale 1 2 1 children ["
    text = f"Transform {{ scale 3 1 1 children [ {inner} {square(1)} ] }} ] }}"
    vertices = read(text).vertices
    assert np.ptp(vertices, axis=0) == pytest.approx([6, 1, 0], abs=1e-12)
    assert area(text) == pytest.approx(6)


def test_notch_under_a_mirror() -> None:
    notch = outline_shape(OUTLINES["notch on top"][0])
    text = f"Transform {{ scale -2 1 1 rotation 1 1 0 0.4 children [ {notch} ] }}"
    assert area(text) == pytest.approx(10)


@pytest.mark.parametrize(
    ("extra", "scale", "up"),
    [
        ("", "1 1 1", 1),
        ("ccw FALSE", "1 1 1", -1),
        ("ccw TRUE", "1 1 1", 1),
        ("", "-1 1 1", 1),
        ("", "-1 -1 1", 1),
        ("ccw FALSE", "-1 1 1", -1),
        ("", "1 1 -1", -1),
    ],
)
def test_faces_are_wound_around_the_outside(extra: str, scale: str, up: int) -> None:
    """A square whose outside looks along +z; mirrored in x it still does, in z it looks down."""
    square_up = outline_shape([(0, 0), (1, 0), (1, 1), (0, 1)], extra)
    surface = read(f"Transform {{ scale {scale} children [ {square_up} ] }}")
    a, b, c = (surface.vertices[surface.faces[:, i]] for i in range(3))
    assert np.cross(b - a, c - a)[:, 2] == pytest.approx(up)
