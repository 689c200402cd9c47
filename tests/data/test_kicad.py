"""The KiCad source on small made-up trees and packages of the real layout."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from kicad_cases import box_file, made, models, package, source, tree

from sa3d.data.check import check
from sa3d.data.prepare import prepare
from sa3d.data.sources.kicad import files as kicad_files
from sa3d.data.sources.kicad import source as kicad
from sa3d.data.sources.kicad.source import class_of, family_of, part_of
from sa3d.errors import DataError


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
