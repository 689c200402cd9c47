"""The KiCad source on small made-up trees and packages of the real layout."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.spatial.transform import Rotation

from sa3d.data.check import check
from sa3d.data.prepare import prepare
from sa3d.data.readers.vrml import read_vrml
from sa3d.data.sources.kicad import files as kicad_files
from sa3d.data.sources.kicad import source as kicad
from sa3d.data.sources.kicad.settings import KicadSource
from sa3d.data.sources.kicad.source import class_of, family_of, part_of
from sa3d.data.store import CloudSet, open_clouds
from sa3d.errors import DataError


def box_shape(lo: tuple, hi: tuple, name: str) -> str:
    """One box as a shape of the named material."""
    corners = [(x, y, z) for x in (lo[0], hi[0]) for y in (lo[1], hi[1]) for z in (lo[2], hi[2])]
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    index = ",".join(",".join(map(str, quad)) + ",-1" for quad in quads)
    points = ",".join(" ".join(map(str, corner)) for corner in corners)
    return (
        f"Shape {{ geometry IndexedFaceSet {{ coordIndex [{index}] coord Coordinate "
        f"{{ point [{points}] }}}} appearance Appearance {{material DEF {name} Material {{ "
        "diffuseColor 1 1 1 } } }\n"
    )


def box_file(
    w: float, d: float, h: float, material: str = "IC-BODY-EPOXY-04", pin_width: float = 0.2
) -> str:
    """A box standing on z = 0 with a thin pin below it."""
    half = pin_width / 2
    pin = box_shape((-half, -half, -h), (half, half, 0.0), "PIN-01")
    return "#VRML V2.0 utf8\n" + box_shape((-w / 2, -d / 2, 0), (w / 2, d / 2, h), material) + pin


def models() -> dict[str, str]:
    """folder/stem -> text. Tall resistors, flat packages, pin headers of two pitches."""
    files = {}
    for family, pin in (("Axial", 0.2), ("Radial", 0.25), ("Disc", 0.3), ("Box", 0.35)):
        for i in range(2, 5):
            files[f"Resistor_THT/R_{family}_L{i}.0mm"] = box_file(1, 1, i, "RES-THT-01", pin)
            files[f"Package_SO/{family}-{i}_3.9x{i}mm"] = box_file(i, 3.9, 1, pin_width=pin)
    for pitch, depth in (("1.27", 1), ("2.54", 1.1)):
        for kind, height in (("Vertical", 1), ("Horizontal", 0.9)):
            for i in (1, 2):
                name = f"Connector_PinHeader_{pitch}mm/PinHeader_1x0{i}_P{pitch}mm_{kind}"
                files[name] = box_file(1, i * depth, height)
    files["Valve/Valve_1"] = box_file(1, 1, 1)
    for i in range(6):
        files[f"Varistor/RV_Disc_D{i}mm"] = box_file(1, i + 1, 3)
    return files


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        folder, stem = name.split("/")
        path = root / "usr" / "share" / "3dmodels" / f"{folder}.3dshapes" / f"{stem}.wrl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.with_suffix(".step").write_text("not read")
    return root


def package(path: Path, files: dict[str, str], compression: str = "xz") -> Path:
    """A Debian package: an ar archive of two tar files."""

    def tar_of(content: dict[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as tar:
            for name, data in content.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return buffer.getvalue()

    data = {
        f"./usr/share/kicad/3dmodels/{name.replace('/', '.3dshapes/')}{suffix}": text.encode()
        for name, text in files.items()
        for suffix in (".wrl", ".step")
    }
    control = b"Package: kicad-packages3d\nVersion: 1\nArchitecture: all\nInstalled-Size: 40\n"
    members = {
        "debian-binary": b"2.0\n",
        f"control.tar.{compression}": tar_of({"./control": control}),
        f"data.tar.{compression}": tar_of(data),
    }
    out = b"!<arch>\n"
    for name, content in members.items():
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        out += content + b"\n" * (len(content) % 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(out)
    return path


def source(root: Path, **changes: object) -> KicadSource:
    return KicadSource(root=str(root), points=128, min_shapes=6, test_fraction=0.25, **changes)


def made(root: Path, out: Path, **changes: object) -> CloudSet:
    return open_clouds(prepare("kicad", source(root, **changes), out, quiet=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tree(tmp_path_factory.mktemp("raw"), models())


def test_classes_families_and_split(folder: Path, tmp_path: Path) -> None:
    clouds = made(folder, tmp_path / "kicad.h5")
    assert clouds.class_names == ("Connector_PinHeader", "Package_SO", "Resistor_THT")
    assert np.bincount(clouds.labels).tolist() == [8, 12, 12]
    for name in np.unique(clouds.family):
        rows = clouds.family == name
        assert len(np.unique(clouds.split[rows])) == 1
        assert len(np.unique(clouds.labels[rows])) == 1
    # families: 2 kinds of header whatever the pitch, 4 + 4 kinds of the others
    assert len(np.unique(clouds.family)) == 10
    held = np.bincount(clouds.labels[clouds.split == 1])
    assert held.tolist() == [4, 3, 3]
    summary = json.loads((tmp_path / "kicad.json").read_text())
    assert summary["left_out"] == {
        "Valve": "1 shapes in 1 families",
        "Varistor": "6 shapes in 1 families",
    }
    assert "CC-BY-SA 4.0 with KiCad's exception" in summary["licence"]
    assert "the split is by family" in summary["split"]
    assert summary["unreadable"] == 0
    assert 0.0 <= summary["descriptor_5nn_accuracy"] <= 1.0


def test_clouds_are_those_of_sampler_version_3(folder: Path, tmp_path: Path) -> None:
    """Recorded digests: raise the sampler's version where what is sampled changes."""
    read = made(folder, tmp_path / "kicad.h5")
    columns = (read.flat_points, read.labels, read.split, read.family, read.flat_parts)
    found = [hashlib.sha256(np.ascontiguousarray(c).tobytes()).hexdigest()[:16] for c in columns]
    assert found == [
        "52b0da253752ee23",
        "63c12d7533623248",
        "62af0b4ccfaadf55",
        "f0ee250717b3082f",
        "9185c653c9429eb2",
    ]
    assert (read.num_points, read.normalisation) == (128, "subsample")


def test_clouds_stand_upright_with_parts(folder: Path, tmp_path: Path) -> None:
    clouds = made(folder, tmp_path / "kicad.h5")
    row = clouds.ids.index("Resistor_THT/R_Axial_L4.0mm")
    metal, ceramic = (clouds.parts(row) == kicad.PARTS.index(p) for p in ("metal", "ceramic"))
    assert (metal | ceramic).all()
    assert clouds.cloud(row)[metal][:, 1].mean() < clouds.cloud(row)[ceramic][:, 1].mean()
    # area of the pin's sides and ends over all
    pin = 4 * 0.2 * 4 + 2 * 0.04
    expected = pin / (pin + 4 * 4 + 2)
    assert metal.mean() == pytest.approx(expected, abs=0.12)
    for number in range(len(clouds)):
        radii = np.linalg.norm(clouds.cloud(number), axis=1)
        assert radii.max() == pytest.approx(1.0, abs=1e-5)
    assert set(clouds.class_parts[2]) == {0, 2}


def test_axes_are_a_rotation(tmp_path: Path) -> None:
    """z up becomes y up without mirroring: x stays, y goes to -z."""
    skewed = box_file(2, 4, 6)
    task = kicad._Task(kicad_files.ModelFile("A", "b", skewed.encode()), 4000, 0)
    cloud = kicad.sample_model(task).points
    assert cloud is not None
    extent = np.ptp(cloud, axis=0)
    assert extent[0] < extent[2] < extent[1]


@pytest.mark.parametrize("with_dpkg", [True, False])
@pytest.mark.parametrize("compression", ["xz", "gz"])
def test_package_and_folder_give_the_same_bytes(
    folder: Path, tmp_path: Path, with_dpkg: bool, compression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if with_dpkg and shutil.which("dpkg-deb") is None:
        pytest.skip("no dpkg-deb here")
    if not with_dpkg:
        monkeypatch.setattr(kicad_files.shutil, "which", lambda _: None)
    package(tmp_path / "raw" / "kicad-packages3d_1_all.deb", models(), compression)
    made(folder, tmp_path / "a.h5")
    made(tmp_path / "raw", tmp_path / "b.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == [
        "kicad-packages3d_1_all.deb"
    ]


def test_root_may_be_the_package_itself(folder: Path, tmp_path: Path) -> None:
    deb = package(tmp_path / "k.deb", models())
    assert made(deb, tmp_path / "a.h5").digest == made(folder, tmp_path / "b.h5").digest


def test_seed_changes_clouds_and_more_points_change_the_hash(folder: Path, tmp_path: Path) -> None:
    first, again = (made(folder, tmp_path / f"{i}.h5") for i in (0, 1))
    assert first.digest == again.digest
    assert first.source_hash == again.source_hash
    other = made(folder, tmp_path / "2.h5", seed=1)
    assert other.source_hash != first.source_hash
    assert (other.flat_points != first.flat_points).any()


# --- bad input ---------------------------------------------------------------------------


def refused(root: Path, out: Path, match: str) -> None:
    with pytest.raises(DataError, match=match):
        made(root, out)
    assert not out.exists()
    assert not list(out.parent.glob(".*.tmp"))


def test_nothing_there(tmp_path: Path) -> None:
    out = tmp_path / "out" / "k.h5"
    refused(tmp_path / "none", out, r"does not exist.*apt-get download kicad-packages3d")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", out, "no KiCad models")
    for name in ("a.deb", "b.deb"):
        package(tmp_path / "two" / name, {})
    refused(tmp_path / "two", out, "several packages")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.999])
def test_half_downloaded_package(tmp_path: Path, share: float) -> None:
    whole = package(tmp_path / "raw" / "k.deb", models())
    content = whole.read_bytes()
    whole.write_bytes(content[: int(len(content) * share)])
    refused(tmp_path / "raw", tmp_path / "k.h5", "half-downloaded|not a Debian package")


def test_package_cut_at_a_member(tmp_path: Path) -> None:
    deb = package(tmp_path / "k.deb", models())
    content = deb.read_bytes()
    deb.write_bytes(content[: content.index(b"data.tar")])
    refused(deb, tmp_path / "k.h5", "without its data part")


@pytest.mark.parametrize("with_dpkg", [True, False])
def test_corrupt_package(tmp_path: Path, with_dpkg: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if with_dpkg and shutil.which("dpkg-deb") is None:
        pytest.skip("no dpkg-deb here")
    if not with_dpkg:
        monkeypatch.setattr(kicad_files.shutil, "which", lambda _: None)
    deb = package(tmp_path / "k.deb", models())
    content = bytearray(deb.read_bytes())
    start = content.index(b"data.tar") + 60
    content[start + 40 : start + 400] = bytes(360)
    deb.write_bytes(content)
    refused(deb, tmp_path / "k.h5", "cannot be unpacked")


def test_one_broken_mesh_is_named_and_skipped(tmp_path: Path) -> None:
    files = models()
    files["Package_SO/Box-2_3.9x2mm"] = files["Package_SO/Box-2_3.9x2mm"][:200]
    clouds = made(tree(tmp_path / "raw", files), tmp_path / "k.h5")
    assert len(clouds) == 31
    summary = json.loads((tmp_path / "k.json").read_text())
    assert summary["unreadable"] == 1
    assert summary["unreadable_examples"][0].startswith("Package_SO/Box-2_3.9x2mm: a number")


def test_what_is_left_out_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Broken meshes, small classes, both, or nothing to say."""
    whole = {n: text for n, text in models().items() if not n.startswith("Va")}
    broken = {**models(), "Package_SO/Box-2_3.9x2mm": "#VRML V2.0 utf8\n"}
    for name, files, said in (
        ("whole", whole, None),
        ("small", models(), "0 of 39 models unreadable, 2 classes left out, 0 copies merged, "),
        ("both", broken, "1 of 39 models unreadable, 2 classes left out, 0 copies merged, "),
    ):
        out = tmp_path / f"{name}.h5"
        prepare("kicad", source(tree(tmp_path / name, files)), out)
        lines = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
        rest = f"0 shapes of several classes dropped: see {out.with_suffix('.json')}"
        assert lines == ([said + rest] if said else [])
    made(tmp_path / "both", tmp_path / "quiet.h5")
    assert capsys.readouterr().err == ""


def test_many_broken_meshes_are_refused(tmp_path: Path) -> None:
    files = models()
    for name in list(files)[:3]:
        files[name] = "#VRML V2.0 utf8\n"
    refused(tree(tmp_path / "raw", files), tmp_path / "k.h5", r"3 of \d+ models cannot be read")


def test_flat_point_meshes_are_unreadable_not_a_crash() -> None:
    flat = box_file(0, 0, 0).replace("0.1", "0")
    cloud = kicad.sample_model(kicad._Task(kicad_files.ModelFile("A", "b", flat.encode()), 64, 0))
    assert cloud.points is None
    assert "area" in cloud.reason


def test_no_class_is_large_enough(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="lower min_shapes"):
        prepare(
            "kicad",
            source(folder).model_copy(update={"min_shapes": 100}),
            tmp_path / "k.h5",
            quiet=True,
        )


def test_the_same_model_twice(tmp_path: Path) -> None:
    few = {name: text for name, text in models().items() if name.startswith("Package")}
    tree(tmp_path / "a", few)
    tree(tmp_path / "b", few)
    refused(tmp_path, tmp_path / "out" / "k.h5", "more than once")


# --- copies ------------------------------------------------------------------------------


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


# --- names -------------------------------------------------------------------------------


def test_names() -> None:
    assert class_of("Connector_PinHeader_2.54mm") == "Connector_PinHeader"
    assert class_of("Connector_PinSocket_1.00mm") == "Connector_PinSocket"
    assert class_of("Connector_Phoenix_MC") == "Connector_Phoenix_MC"
    assert family_of("P", "DIP-14_W7.62mm") == family_of("P", "DIP-16_W10.16mm") == "P/DIP-#_W#mm"
    assert family_of("P", "DIP-14_Socket") != family_of("P", "DIP-14")


@pytest.mark.parametrize(
    ("material", "part"),
    [
        ("PIN-02", "metal"),
        ("MET-COPPER", "metal"),
        ("IC-BODY-EPOXY-04", "body"),
        ("PLASTIC-GREEN-01", "body"),
        ("RED-BODY", "body"),
        ("", "body"),
        ("CAP-CERAMIC-05", "ceramic"),
        ("RES-SMD-01", "ceramic"),
        ("LED-RED", "lens"),
        ("GLASS-13", "lens"),
        ("IC-LABEL-01", "marking"),
    ],
)
def test_parts_of_materials(material: str, part: str) -> None:
    assert kicad.PARTS[part_of(material)] == part


# --- check -------------------------------------------------------------------------------


def test_check_tells_what_is_missing_and_what_is_there(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "kicad.h5"
    before = check("kicad", source(tmp_path / "none"), out)
    assert (before.raw_state, before.processed.state, before.fine) == ("absent", "absent", False)
    assert before.raw is not None
    assert "apt-get download" in before.raw.missing[0]
    assert "dvc repro prepare@kicad" in before.processed.notes[0]
    clouds = made(folder, out)
    after = check("kicad", source(folder), out)
    assert (after.raw_state, after.processed.state, after.fine) == ("there", "there", True)
    assert after.raw is not None
    assert after.raw.facts == {"models": 39}
    assert after.processed.facts["digest"] == clouds.digest
    with h5py.File(out, "r+") as file:
        file["points"][3, 1] += 0.5
    spoilt = check("kicad", source(folder), out)
    assert not spoilt.fine
    assert "has changed" in spoilt.processed.problems[0]
    assert check("kicad", source(folder), out, full=False).fine


def test_a_package_of_which_half_came_is_not_absent(tmp_path: Path) -> None:
    (tmp_path / "kicad-packages3d_1_all.deb").write_bytes(b"!<arch>\n")
    found = check("kicad", source(tmp_path), tmp_path / "kicad.h5")
    assert found.raw_state == "incomplete"
    assert found.raw is not None
    assert "half-downloaded" in found.raw.missing[0]
