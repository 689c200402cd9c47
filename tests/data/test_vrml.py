"""The VRML reader: what exporters write, and every way such a file can be broken."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa3d.data.readers.vrml import MAX_DEPTH, VrmlError, read_vrml

HEAD = '#VRML V2.0 utf8\n# a comment with { [ and "\n'
DEFS = """
Shape { appearance Appearance {material DEF PIN-01 Material { diffuseColor 0.8 0.8 0.7
    transparency 0.0 } } }
Shape { appearance Appearance {material DEF IC-BODY Material { diffuseColor 0.1 0.1 0.1 } } }
"""


def face_set(
    index: str = "0,1,2,-1",
    points: str = "0 0 0,1 0 0,0 1 0",
    material: str = "material USE PIN-01",
) -> str:
    return (
        f"Shape {{ geometry IndexedFaceSet\n{{ creaseAngle 0.50 coordIndex [{index}]\n"
        f"coord Coordinate {{ point [{points}]\n}}}}\nappearance Appearance{{{material} }}\n}}\n"
    )


def read(text: str) -> object:
    return read_vrml((HEAD + text).encode())


def test_def_and_use_of_materials() -> None:
    body = face_set("0,1,2,-1,0,2,1,-1", material="material USE IC-BODY")
    surface = read(DEFS + face_set() + body + face_set(material=""))
    assert surface.materials == ("PIN-01", "IC-BODY", "")
    assert surface.material.tolist() == [0, 1, 1, 2]
    assert surface.faces.tolist() == [[0, 1, 2], [3, 4, 5], [3, 5, 4], [6, 7, 8]]
    np.testing.assert_array_equal(surface.vertices[3:6], [[0, 0, 0], [1, 0, 0], [0, 1, 0]])


def test_material_without_def_is_named_or_anonymous() -> None:
    assert read(face_set()).materials == ("PIN-01",)
    assert read(face_set(material="material Material { }")).materials == ("",)
    plain = face_set().replace("appearance Appearance{material USE PIN-01 }", "")
    assert read(plain).materials == ("",)


def test_appearance_and_coordinates_by_use() -> None:
    first = (
        face_set()
        .replace("Appearance{", "DEF LOOK Appearance{")
        .replace("coord Coordinate", "coord DEF xyz Coordinate")
    )
    second = (
        "Shape { appearance USE LOOK geometry IndexedFaceSet { coord USE xyz coordIndex [2 1 0] } }"
    )
    surface = read(DEFS + first + second)
    assert surface.materials == ("PIN-01",)
    assert surface.faces.tolist() == [[0, 1, 2], [5, 4, 3]]


def test_polygons_become_fans_and_the_last_minus_one_may_be_missing() -> None:
    surface = read(face_set("0,1,2,3,-1,0,1,-1,3,2,1", "0 0 0,1 0 0,1 1 0,0 1 0"))
    assert surface.faces.tolist() == [[0, 1, 2], [0, 2, 3], [3, 2, 1]]
    # two lists without a closing -1 do not run into each other
    surface = read(face_set("0,1,2") + face_set("2,1,0"))
    assert surface.faces.tolist() == [[0, 1, 2], [5, 4, 3]]


def test_separators_and_comments_inside_lists() -> None:
    surface = read(face_set("0 1\n2 # three\n -1,", "0 0 0 # origin\n1.0e0 0 +0,\t0 1. -0.0,"))
    assert surface.faces.tolist() == [[0, 1, 2]]
    np.testing.assert_array_equal(surface.vertices[1], [1, 0, 0])


def test_nested_transforms() -> None:
    text = f"""Transform {{ translation 10 0 0 children [
      Transform {{ rotation 0 0 2 1.5707963267948966 scale 2 1 1 children {face_set()} }}
      Group {{ children [ {face_set()} ] }} ] }}"""
    vertices = read(text).vertices
    np.testing.assert_allclose(
        vertices,
        [[10, 0, 0], [10, 2, 0], [9, 0, 0], [10, 0, 0], [11, 0, 0], [10, 1, 0]],
        atol=1e-12,
    )


def test_centre_and_scale_orientation() -> None:
    """Against the formula of the standard, multiplied out with homogeneous matrices."""
    text = f"""Transform {{ center 1 2 3 rotation 1 1 0 0.7 scale 2 3 4 translation 5 6 7
        scaleOrientation 0 1 1 0.3 children [ {face_set()} ] }}"""

    def rotate(axis: list[float], angle: float) -> np.ndarray:
        x, y, z = np.array(axis) / np.linalg.norm(axis)
        k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        out = np.eye(4)
        out[:3, :3] = np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k
        return out

    def shift(*by: float) -> np.ndarray:
        out = np.eye(4)
        out[:3, 3] = by
        return out

    orient = rotate([0, 1, 1], 0.3)
    matrix = (
        shift(5, 6, 7)
        @ shift(1, 2, 3)
        @ rotate([1, 1, 0], 0.7)
        @ orient
        @ np.diag([2, 3, 4, 1])
        @ np.linalg.inv(orient)
        @ shift(-1, -2, -3)
    )
    corners = np.array([[0, 0, 0, 1], [1, 0, 0, 1], [0, 1, 0, 1]])
    np.testing.assert_allclose(read(text).vertices, (corners @ matrix.T)[:, :3], atol=1e-12)


def test_switch_shows_one_choice_and_lines_are_passed_over() -> None:
    other = face_set(points="0 0 9,1 0 9,0 1 9")
    text = f"Switch {{ whichChoice 1 choice [ {face_set()} {other} ] }}"
    assert (read(text).vertices[:, 2] == 9).all()
    lines = face_set().replace("IndexedFaceSet", "IndexedLineSet")
    assert len(read(lines + face_set()).faces) == 1
    hidden = f"Switch {{ whichChoice -1 choice [ {face_set()} ] }}"
    with pytest.raises(VrmlError, match="no face"):
        read(hidden)


def test_children_by_use() -> None:
    """A hidden choice holds the shapes, as one exporter writes them; groups show them by USE."""
    shapes = face_set().replace("Shape", "DEF one Shape", 1)
    text = f"""Switch {{ whichChoice -1 choice [ Group {{ children [ {shapes} ] }} ] }}
        Group {{ children [ USE one, USE one ] }}
        Transform {{ translation 0 0 5 children [ USE one ] }}"""
    surface = read(text)
    assert len(surface.faces) == 3
    assert surface.vertices[:, 2].tolist() == [0] * 6 + [5] * 3


def test_other_nodes_are_passed_over() -> None:
    text = (
        'WorldInfo { title "a { b [ \\" c" info [ "x" "y ]" ] }\n'
        "DEF Timer TimeSensor { loop TRUE cycleInterval 2 }\n"
        'Viewpoint { position 0 0 1 description "v" }\nROUTE Timer.a TO Timer.b\n'
    )
    assert len(read(text + face_set()).faces) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no face"),
        (DEFS, "no face"),
        (face_set("0,1,-1"), "three corners"),
        (face_set("0,1,3,-1"), "index 3 outside the 3 coordinates"),
        (face_set("0,1,-2,-1"), "out of range"),
        (face_set("0,1,-7,-1"), "index -7"),
        (face_set("0,1,99999999999999999999999,-1"), "outside"),
        (face_set("0,1,nan,-1"), "outside"),
        (face_set("0,1,1.5,-1"), "whole number"),
        (face_set("0,1,two,-1"), "not a number"),
        (face_set(points="0 0 0,1 0 0,0 1"), "not whole points"),
        (face_set(points="0 0 0,1 nan 0,0 1 0"), "not finite"),
        (face_set(points="0 0 0,1 inf 0,0 1 0"), "not finite"),
        (face_set(points="0 0 0,1 1e999 0,0 1 0"), "not finite"),
        (face_set(points=""), "outside the 0 coordinates"),
        (face_set().replace("coord Coordinate", "coord USE gone "), "malformed|expected"),
        ("Shape { geometry USE gone }", "USE gone without a DEF"),
        ("PROTO Thing [ ] { }", "PROTO"),
        ("Shape } ", "expected '{'"),
        ("{ }", "malformed"),
        ("Group { children [ } ]", "malformed"),
        ("Transform { translation 1 2 children [ " + face_set() + " ] }", "2 numbers, expected 3"),
        ("Group { children [ " * (MAX_DEPTH + 2), f"deeper than {MAX_DEPTH}"),
        ("DEF A Group { children [ USE A ] } " + face_set(), "contains itself"),
        ('Shape { "unclosed', "malformed|truncated"),
    ],
)
def test_malformed_files_are_refused_in_words(text: str, says: str) -> None:
    with pytest.raises(VrmlError, match=says):
        read(text)


@pytest.mark.parametrize("text", [b"", b"\x00\x01", b"#VRML V1.0 ascii\n", b"solid x\nendsolid"])
def test_other_formats_are_refused(text: bytes) -> None:
    with pytest.raises(VrmlError, match="does not begin"):
        read_vrml(text)


@given(st.integers(0, 2000))
def test_truncated_anywhere_is_refused_or_a_shorter_scene(cut: int) -> None:
    """A cut file never crashes: it raises, or ended exactly between two shapes."""
    whole = (HEAD + DEFS + face_set() + face_set()).encode()
    text = whole[: min(cut, len(whole))]
    try:
        surface = read_vrml(text)
    except VrmlError:
        return
    assert len(surface.faces) == text.count(b"IndexedFaceSet")
    assert text.rstrip().endswith(b"}")


@given(st.binary(max_size=300))
def test_garbage_never_crashes(garbage: bytes) -> None:
    text = (HEAD + DEFS).encode() + garbage
    try:
        surface = read_vrml(text)
    except VrmlError:
        return
    assert surface.faces.max() < len(surface.vertices)
