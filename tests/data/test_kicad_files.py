"""Single files of a tree or package of KiCad models that are packed, damaged or not there."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest

from sa3d.data.prepare import prepare
from sa3d.data.readers import vrml
from sa3d.data.sources.kicad import source as kicad
from sa3d.data.sources.kicad.files import ModelFile, model_files
from sa3d.data.sources.kicad.settings import KicadSource
from sa3d.data.store import CloudSet, open_clouds
from sa3d.errors import DataError

PLACES = ["folder", "package"]
_BOX = [(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]
_SIDES = "0 1 3 2 -1 4 6 7 5 -1 0 4 5 1 -1 2 3 7 6 -1 0 2 6 4 -1 1 5 7 3 -1"


def box(width: float, depth: float, height: float) -> bytes:
    points = ", ".join(f"{x * width} {y * depth} {z * height}" for x, y, z in _BOX)
    return (
        "#VRML V2.0 utf8\nShape { geometry IndexedFaceSet { coord Coordinate { point "
        f"[{points}] }} coordIndex [{_SIDES}] }} }}\n"
    ).encode()


def models(count: int) -> dict[str, bytes]:
    """``count`` boxes of different proportions, in two classes of three families each."""
    return {
        f"{('Cap', 'Coil')[i % 2]}/{'ABC'[i // 2 % 3]}_{i}": box(1, 1 + 0.1 * i, 3 + (i % 2) * i)
        for i in range(count)
    }


def put(root: Path, place: str, files: dict[str, bytes | None]) -> Path:
    """The models as an unpacked tree or a package; None is a link to nowhere."""
    names = {name: f"usr/{name.replace('/', '.3dshapes/')}.wrl" for name in files}
    if place == "folder":
        for name, content in files.items():
            path = root / names[name]
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.symlink_to(root / "gone")
            else:
                path.write_bytes(content)
        return root
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"./{names[name]}")
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "gone"
            info.size = len(content or b"")
            tar.addfile(info, io.BytesIO(content or b""))
    out = b"!<arch>\n"
    for name, content in {"debian-binary": b"2.0\n", "data.tar.gz": buffer.getvalue()}.items():
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        out += content + b"\n" * (len(content) % 2)
    root.mkdir(parents=True)
    (root / "k.deb").write_bytes(out)
    return root


@pytest.fixture(autouse=True)
def without_dpkg(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packages here have no control part, which `dpkg-deb` wants."""
    monkeypatch.setattr("sa3d.data.sources.kicad.files.shutil.which", lambda _: None)


def made(root: Path, out: Path) -> CloudSet:
    source = KicadSource(root=str(root), points=64, min_shapes=3, test_fraction=0.3)
    return open_clouds(prepare("kicad", source, out, quiet=True))


@pytest.mark.parametrize("place", PLACES)
def test_models_packed_with_gzip_are_read(tmp_path: Path, place: str) -> None:
    """Some packed, in one part or two, make the clouds that they make unpacked."""
    plain = models(12)
    packed = dict(plain)
    first, second, *_ = plain
    packed[first] = gzip.compress(plain[first])
    packed[second] = gzip.compress(plain[second][:50]) + gzip.compress(plain[second][50:])
    a = made(put(tmp_path / "plain", place, plain), tmp_path / "a.h5")
    b = made(put(tmp_path / "packed", place, packed), tmp_path / "b.h5")
    assert a.ids == b.ids
    assert (a.flat_points == b.flat_points).all()
    assert json.loads((tmp_path / "b.json").read_text())["unreadable"] == 0


@pytest.mark.parametrize("place", PLACES)
def test_a_few_unreadable_files_are_counted_and_named(tmp_path: Path, place: str) -> None:
    """Three of 150 (the share allowed), each for another reason."""
    files: dict[str, bytes | None] = dict(models(150))
    why = {
        gzip.compress(models(1)["Cap/A_0"])[:-9]: "packed with gzip and damaged",
        models(1)["Cap/A_0"][:80]: "truncated",
        None: "cannot be opened",
    }
    chosen = dict(zip(list(files)[10:40:10], why, strict=True))
    clouds = made(put(tmp_path / "raw", place, files | chosen), tmp_path / "k.h5")
    assert not set(chosen) & set(clouds.ids)
    summary = json.loads((tmp_path / "k.json").read_text())
    assert summary["unreadable"] == 3
    told = dict(line.split(": ", 1) for line in summary["unreadable_examples"])
    assert set(told) == set(chosen)
    assert all(reason in told[name] for name, reason in zip(chosen, why.values(), strict=True))


@pytest.mark.parametrize("place", PLACES)
def test_more_than_a_few_are_refused(tmp_path: Path, place: str) -> None:
    files: dict[str, bytes | None] = dict(models(99))
    for name in list(files)[:2]:
        files[name] = None
    with pytest.raises(DataError, match=r"2 of 99 models cannot be read \(.*cannot be opened"):
        made(put(tmp_path / "raw", place, files), tmp_path / "k.h5")
    assert not (tmp_path / "k.h5").exists()


def test_a_folder_named_as_a_model_is_counted(tmp_path: Path) -> None:
    put(tmp_path, "folder", models(2))
    (tmp_path / "usr" / "Cap.3dshapes" / "odd.wrl").mkdir()

    class Bar:
        def expect(self, total: int) -> None:
            assert total == 3

    found = {file.stem: file.problem for file in model_files(tmp_path, Bar())}
    assert found == {"A_0": "", "A_1": "", "odd": "cannot be opened: Is a directory"}


@pytest.mark.parametrize(("broken", "fine"), [(2, True), (120, True), (121, False)])
def test_the_share_of_six_thousand_that_may_be_unreadable(broken: int, fine: bool) -> None:
    cloud = kicad.sample_model(kicad._Task(ModelFile("A", "b", b""), 64, 0))
    if fine:
        kicad._check_unreadable([cloud] * broken, 6000, Path("raw"))
        return
    with pytest.raises(DataError, match="121 of 6000 models cannot be read"):
        kicad._check_unreadable([cloud] * broken, 6000, Path("raw"))


def test_a_bomb_is_refused_at_the_limit_in_one_line() -> None:
    """300 MB of blanks in 1.3 MB, cut off at 30 times what they are packed to."""
    bomb = gzip.compress(b"#VRML V2.0 utf8\n" + bytes(300 << 20), compresslevel=1)
    with pytest.raises(
        vrml.VrmlError, match=r"^is packed with gzip, \d+ bytes that hold more than \d+;"
    ):
        vrml.read_vrml(bomb)
