"""Small trees and packages of the KiCad library's layout, made of boxes."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from sa3d.data.prepare import prepare
from sa3d.data.sources.kicad.settings import KicadSource
from sa3d.data.store import CloudSet, open_clouds


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
