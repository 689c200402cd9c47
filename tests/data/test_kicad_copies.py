"""Copies among KiCad models: merged in a class, dropped across classes, never in both splits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from kicad_cases import box_file, box_shape, made, models, source, tree
from scipy.spatial.distance import pdist
from scipy.spatial.transform import Rotation

from sa3d.data.prepare import prepare
from sa3d.data.readers.vrml import read_vrml
from sa3d.data.store import CloudSet


def remade(
    text: str,
    rotation: Rotation | None = None,
    scale: float = 1.0,
    mirror: bool = False,
    decimals: int = 6,
) -> str:
    """The same surface written anew: one material, other order of vertices and faces, every face
    with vertices of its own; turned, moved and scaled, or mirrored."""
    surface = read_vrml(text.encode())
    points = surface.vertices * ((1, -1, 1) if mirror else (1, 1, 1))
    points = (rotation or Rotation.identity()).apply(points) * scale + (5.0, -2.0, 7.0)
    rng = np.random.default_rng(len(text))
    corners = rng.permutation(points[surface.faces]).reshape(-1, 3)
    order = rng.permutation(len(corners))
    index = np.argsort(order).reshape(-1, 3)
    coords = ",".join(" ".join(f"{x:.{decimals}f}" for x in corner) for corner in corners[order])
    faces = ",".join(f"{a},{b},{c},-1" for a, b, c in index)
    return (
        f"#VRML V2.0 utf8\nShape {{ geometry IndexedFaceSet {{ coordIndex [{faces}] "
        f"coord Coordinate {{ point [{coords}] }}}}}}\n"
    )


def comb(pins: int, side: float = 0.4) -> str:
    """A bar on pins that stand off its middle, unlike its mirror image by a foot at one end."""
    parts = [((0, 0, 0), (2.0 * pins, 1, 1), "IC-BODY-EPOXY-04")]
    parts += [((2.0 * i + 0.7, 0.1, -2), (2.0 * i + 1.2, 0.4, 0), "PIN-01") for i in range(pins)]
    parts += [((0.1, 1, 0), (0.5, 1 + side, 0.3), "PIN-01")]
    return "#VRML V2.0 utf8\n" + "".join(box_shape(*part) for part in parts)


def prepared(files: dict[str, str], path: Path) -> tuple[CloudSet, dict[str, object]]:
    clouds = made(tree(path / "raw", files), path / "k.h5")
    return clouds, json.loads((path / "k.json").read_text())


SKEW = Rotation.from_rotvec((0.4, -1.1, 0.7))
AXIAL = "Resistor_THT/R_Axial_L3.0mm"


@pytest.mark.parametrize(
    "copy",
    [
        lambda text: text,
        lambda text: remade(text),
        lambda text: remade(text, SKEW),
        lambda text: remade(text, SKEW, scale=0.3937),
        lambda text: remade(text, decimals=4),
    ],
    ids=["bytes", "order", "turned", "scaled", "rounded"],
)
def test_copies_in_a_class_are_merged(tmp_path: Path, copy: Callable[[str], str]) -> None:
    """The first by name stays, and the families of both names become one."""
    before, _ = prepared(models(), tmp_path / "a")
    files = models()
    files["Resistor_THT/R_Wound_L3.0mm"] = copy(files[AXIAL])
    files["Resistor_THT/R_Wound_L5.0mm"] = box_file(1, 1, 5, "RES-THT-01")
    clouds, summary = prepared(files, tmp_path / "b")
    assert set(clouds.ids) - set(before.ids) == {"Resistor_THT/R_Wound_L5.0mm"}
    assert summary["merged"] == 1
    assert summary["merged_examples"] == [f"Resistor_THT/R_Wound_L3.0mm is {AXIAL}"]
    assert summary["ambiguous"] == 0
    assert summary["families_joined"] == 1
    wound, axial = (clouds.ids.index(name) for name in ("Resistor_THT/R_Wound_L5.0mm", AXIAL))
    assert clouds.family[wound] == clouds.family[axial]
    assert summary["families"] == 10


def test_the_same_geometry_in_two_classes_is_dropped(tmp_path: Path) -> None:
    files = models()
    files["Package_SO/Chip-3"] = remade(files[AXIAL], SKEW)
    files["Package_SO/Chip-4"] = remade(files[AXIAL], scale=2.0)
    clouds, summary = prepared(files, tmp_path)
    assert len(clouds) == 31
    assert not {AXIAL, "Package_SO/Chip-3", "Package_SO/Chip-4"} & set(clouds.ids)
    assert (summary["merged"], summary["ambiguous"], summary["families_joined"]) == (0, 3, 0)
    assert summary["ambiguous_examples"] == [
        f"Package_SO/Chip-3 is like {AXIAL}",
        f"Package_SO/Chip-4 is like {AXIAL}",
        f"{AXIAL} is like Package_SO/Chip-3",
    ]


def test_a_class_that_is_left_out_makes_nothing_ambiguous(tmp_path: Path) -> None:
    files = models()
    files["Valve/Valve_2"] = files[AXIAL]
    clouds, summary = prepared(files, tmp_path)
    assert AXIAL in clouds.ids
    assert summary["ambiguous"] == 0


def test_a_class_too_small_without_copies_is_left_out_and_makes_nothing_ambiguous(
    tmp_path: Path,
) -> None:
    """Seven files of two families, of which three are one geometry, that of a resistor."""
    files = models()
    for i in range(4):
        files[f"Twin/Kind{'AB'[i % 2]}_{i}"] = box_file(3, 4, 5 + i)
    for name in "CDE":
        files[f"Twin/Kind{name}"] = files[AXIAL]
    clouds, summary = prepared(files, tmp_path)
    assert "Twin" not in clouds.class_names
    assert summary["left_out"]["Twin"] == "4 shapes in 2 families without copies"
    assert AXIAL in clouds.ids
    assert (summary["merged"], summary["ambiguous"]) == (0, 0)


def test_classes_that_are_copies_of_each_other_are_left_out(tmp_path: Path) -> None:
    files = models()
    files |= {f"Twin/{n.split('/')[1]}": t for n, t in models().items() if n.startswith("Package")}
    clouds, summary = prepared(files, tmp_path)
    assert clouds.class_names == ("Connector_PinHeader", "Resistor_THT")
    for name in ("Package_SO", "Twin"):
        assert summary["left_out"][name] == "0 shapes in 0 families without copies"


def test_parts_that_differ_are_kept(tmp_path: Path) -> None:
    """By one pin of many, or by being the mirror image, which is of the same family, though."""
    files = models()
    for pins in (19, 20, 21):
        files[f"Package_SO/Comb-{pins}"] = comb(pins)
    files["Package_SO/CombMirrored-20"] = remade(comb(20), SKEW, mirror=True)
    files["Package_SO/CombOther-20"] = comb(20, side=0.8)
    clouds, summary = prepared(files, tmp_path)
    assert len(clouds) == 37
    assert (summary["merged"], summary["ambiguous"], summary["families_joined"]) == (0, 0, 1)
    kinds = [
        clouds.family[clouds.ids.index(f"Package_SO/Comb{k}-20")] for k in ("", "Mirrored", "Other")
    ]
    assert kinds[0] == kinds[1] != kinds[2]


def test_no_geometry_of_test_stands_in_training(tmp_path: Path) -> None:
    """Told by the sorted distances between all corners of the meshes, which no motion changes."""
    files = models()
    rng = np.random.default_rng(3)
    for number, (name, text) in enumerate(list(files.items())[:32]):
        rotation = Rotation.random(random_state=number)
        copy = remade(text, rotation, scale=float(rng.uniform(0.1, 9.0)))
        folder = name.split("/")[0]
        elsewhere = "Package_SO" if number % 9 == 0 else folder
        files[f"{elsewhere}/{name.split('/')[1]}_again"] = copy
    clouds, summary = prepared(files, tmp_path)
    assert summary["merged"] > 20
    assert summary["ambiguous"] >= 4

    def corners(name: str) -> np.ndarray:
        surface = read_vrml(files[name].encode())
        found = pdist(np.unique(surface.vertices.round(4), axis=0))
        return np.sort(found) / found.max()

    spectra = {name: corners(name) for name in clouds.ids}
    for one in np.flatnonzero(clouds.split == 1):
        for other in np.flatnonzero(clouds.split == 0):
            a, b = spectra[clouds.ids[one]], spectra[clouds.ids[other]]
            assert len(a) != len(b) or np.abs(a - b).max() > 1e-3, (
                clouds.ids[one],
                clouds.ids[other],
            )


def test_copies_are_said_in_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {n: text for n, text in models().items() if not n.startswith("Va")}
    files["Resistor_THT/R_Wound_L3.0mm"] = files[AXIAL]
    files["Package_SO/Chip-3"] = files["Resistor_THT/R_Disc_L3.0mm"]
    prepare("kicad", source(tree(tmp_path / "raw", files)), tmp_path / "k.h5")
    assert "1 copies merged, 2 shapes of several classes dropped: see " in capsys.readouterr().err
