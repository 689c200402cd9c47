"""Damaged and packed files of each format: refused in one line, in little time and memory."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import resource
import struct
import time
import tracemalloc
from pathlib import Path

import laspy
import numpy as np
import pytest
from pypcd4.pypcd4 import Encoding, PointCloud
from reader_cases import CORNERS, OBJ, OFF, PLY, STL, a_cloud, exported, pcd, refused, saved

from sa3d.data.readers import whole_file
from sa3d.data.readers.packed import unpacking_at_most
from sa3d.errors import DataError


def test_a_packed_text_file_that_is_mostly_repetition_is_refused_at_once() -> None:
    """Its rows are points, so that nothing but its size speaks against it."""
    bomb = gzip.compress(b"0.25 0.5 1\n" * 2_000_000)
    tracemalloc.start()
    began = time.process_time()
    said = refused(bomb, "xyz")
    seconds, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert said == (
        f"is packed with gzip, {len(bomb)} bytes that hold more than {8 << 20}; unpack it first"
    )
    assert (seconds < 5, peak < 64 << 20) == (True, True)


def test_a_large_packed_file_that_is_no_repetition_is_read() -> None:
    points = np.random.default_rng(0).normal(size=(200_000, 3))
    text = "\n".join(f"{x:.14f} {y:.14f} {z:.14f}" for x, y, z in points.tolist())
    assert len(text) > 8 << 20
    assert len(a_cloud(gzip.compress(text.encode(), 1), "xyz").points) == 200_000


@pytest.mark.parametrize("kind", ["npz", "pcd", "laz", "xyz"])
def test_whatever_packed_a_file_a_caller_can_say_how_large_it_may_become(kind: str) -> None:
    points = np.zeros((5000, 3)) + np.arange(5000)[:, None]
    with unpacking_at_most(50_000):
        said = refused(packed_points(points, kind), kind)
    assert "unpack" in said
    assert len(a_cloud(packed_points(points, kind), kind).points) == 5000


def packed_points(points: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    if kind == "npz":
        np.savez_compressed(file, points=points)
    elif kind == "pcd":
        cloud = PointCloud.from_xyz_points(points.astype(np.float32))
        cloud.save(file, Encoding.BINARY_COMPRESSED)
    elif kind == "laz":
        las = laspy.LasData(laspy.LasHeader(point_format=3, version="1.2"))
        las.x, las.y, las.z = points.T
        las.write(file, do_compress=True)
    else:
        return gzip.compress("".join(f"{x} {y} {z}\n" for x, y, z in points).encode())
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        ("off", "", "empty"),
        ("off", OFF.replace("3 0 2 3\n", ""), "announces 4 vertices and 2 faces"),
        ("off", OFF.removesuffix(" 3\n"), "cut off"),
        ("off", OFF.replace("3 0 2 3", "3 0 2 9"), "outside"),
        ("off", OFF.replace("2 3 0", "2 nan 0"), "vertex 2 is not finite"),
        ("off", "OFF\n0 0 0\n", "without a single face"),
        ("off", "OFF\n4 0 0\n0 0 0\n2 0 0\n2 3 0\n0 3 0\n", "without a single face"),
        ("off", OFF.replace("2 3 0\n0 3 0", "1 0 0\n3 0 0"), "area 0"),
        ("off", "OFF\n9999999999 2 0\n0 0 0\n", "announces 9999999999"),
        ("obj", "v 0 0 0\nv 1 0 x\nv 0 1 0\nf 1 2 3\n", "not a whole .obj"),
        ("obj", OBJ.replace("f 1 3 4", "f 1 3 40"), ".obj"),
        (
            "obj",
            "v 0 0 0\nv 1 0 0\nv 0 1 0\nf -3 -2 -1\nv 0 0 5\nv 1 0 5\nv 0 1 5\nf -3 -2 -1\n",
            "backwards",
        ),
        ("obj", "# nothing\n", ".obj"),
        ("stl", exported("stl")[:-7], "announces 2 triangles, 184 bytes, but has 177"),
        (
            "stl",
            exported("stl")[:80] + struct.pack("<I", 2**32 - 1) + exported("stl")[84:],
            "announces 4294967295",
        ),
        ("stl", STL[: STL.rindex("endfacet")], "does not end"),
        ("stl", STL.replace("endsolid x\n", ""), "does not end"),
        ("stl", STL.replace("vertex 2.0 3.0 0.0", "vertex 2.0 inf 0.0"), "not finite"),
        ("stl", "solid x\nendsolid x\n", ".stl"),
        ("ply", PLY.replace("3 0 2 3\n", ""), "announces 6 rows but has 5"),
        ("ply", PLY.removesuffix(" 3\n"), "last row is cut off"),
        ("ply", PLY[:60], "header does not end"),
        ("ply", PLY.replace("vertex 4", "vertex 4000000000"), "announces 4000000002 rows"),
        ("ply", PLY.replace("2 3 0", "2 nan 0"), "not finite"),
        ("ply", exported("ply")[:-3], "unexpected length"),
        ("ply", exported("ply").replace(b"vertex 4", b"vertex 4000000000"), ".ply"),
        ("glb", exported("glb")[:-3], "announces"),
        ("glb", b"glTF", "does not begin"),
        ("pcd", pcd(Encoding.BINARY)[:-5], "announces 100 points, 1600 bytes, but has 1595"),
        ("pcd", pcd(Encoding.BINARY_COMPRESSED)[:-5], "packed"),
        ("pcd", pcd(Encoding.ASCII)[:2000], "fewer rows"),
        ("pcd", pcd(Encoding.BINARY).replace(b"POINTS 100", b"POINTS 9999999999"), "announces"),
        (
            "pcd",
            pcd(Encoding.BINARY_COMPRESSED).replace(b"POINTS 100", b"POINTS 9999999999"),
            "announces",
        ),
        ("pcd", b"# .PCD v0.7\nVERSION 0.7\n", "header does not end"),
        ("npy", b"\x93NUMPY\x01\x00", ".npy"),
        ("npz", saved(points=CORNERS)[:-30], ".npz"),
        ("txt", "1 2 3\n1 2 3 4\n", "row 2 has 4 numbers, the rows before it 3"),
        ("txt", "1 2 3 4 5\n", "shape (1, 5)"),
        ("txt", "1 2 3\n1 2 three\n", "row 2 is not numbers"),
        ("txt", "1 2 3\n1 2 nan\n", "point 1 is not finite"),
        ("xyz", b"\xff\xfe\x00\x01", ".xyz"),
        ("wrl", "#VRML V2.0 utf8\n", ".wrl"),
        ("step", "ISO-10303-21;", "not a format that can be read"),
    ],
)
def test_one_line_says_what_is_wrong(kind: str, data: bytes | str, said: str) -> None:
    assert said in refused(data, kind)


def test_pickled_objects_are_refused() -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, ("touch /tmp/should-not-exist",)

    objects = np.array([Bomb()] * 4, dtype=object)
    assert "allow_pickle" in refused(saved(points=objects), "npz")
    stream = io.BytesIO()
    np.save(stream, objects)
    assert "allow_pickle" in refused(stream.getvalue(), "npy")
    assert ".npy" in refused(pickle.dumps([1.0]), "npy")


def glb(tree: dict[str, object], body: bytes = b"") -> bytes:
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    chunk = struct.pack("<II", len(body), 0x004E4942) + body if body else b""
    total = 20 + len(text) + len(chunk)
    return struct.pack("<4sIIII", b"glTF", 2, total, len(text), 0x4E4F534A) + text + chunk


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"buffers": [{"uri": "away.bin", "byteLength": 72}]}, "another file, 'away.bin'"),
        ({"extensionsRequired": ["KHR_draco_mesh_compression"]}, "draco"),
        ({"accessors": [{"count": 10**12, "componentType": 5126, "type": "VEC3"}]}, "announces"),
        (
            {"accessors": [{"count": 4, "componentType": 5126, "type": "VEC3", "sparse": {}}]},
            "sparse",
        ),
        ({"meshes": [{"primitives": [{"mode": 6, "attributes": {}}]}]}, "triangle fans"),
        ({"buffers": [], "bufferViews": [{"buffer": 0, "byteLength": 8}], "accessors": []}, ".glb"),
    ],
)
def test_a_glb_that_is_not_all_there(change: dict[str, object], said: str) -> None:
    assert said in refused(glb({"asset": {"version": "2.0"}, **change}), "glb")


def test_triangles_and_quads_in_one_binary_ply_are_refused() -> None:
    header = PLY.split("0 0 0")[0].replace("ascii", "binary_little_endian")
    vertices = CORNERS.astype("<f4").tobytes()
    faces = struct.pack("<B3i", 3, 0, 1, 2) + struct.pack("<B4i", 4, 0, 1, 2, 3)
    assert "unexpected length" in refused(header.encode() + vertices + faces, "ply")
    # a pentagon makes up for the missing corner of a triangle
    three = header.replace("face 2", "face 3").encode() + vertices
    pieces = ((4, 0, 1, 2, 3), (3, 0, 1, 2), (5, 0, 1, 2, 3, 0))
    body = b"".join(struct.pack(f"<B{len(p) - 1}i", *p) for p in pieces)
    assert "several sizes" in refused(three + body, "ply")


def test_a_huge_count_takes_no_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for kind, data in (
        ("ply", exported("ply").replace(b"vertex 4", b"vertex 4000000000")),
        ("pcd", pcd(Encoding.BINARY).replace(b"POINTS 100", b"POINTS 4000000000")),
        ("pcd", pcd(Encoding.BINARY_COMPRESSED).replace(b"POINTS 100", b"POINTS 4000000000")),
    ):
        refused(data, kind)
    stream = io.BytesIO()
    np.save(stream, CORNERS)
    refused(stream.getvalue().replace(b"(4, 3)", b"(4000000000, 3)"), "npy")
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert used < (64 << 10)  # KiB


def test_a_file_that_grows_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.xyz"
    path.write_text("1 2 3\n")
    asked = []
    fstat = os.fstat

    def grown(handle: int) -> os.stat_result:
        found = fstat(handle)
        if not asked:
            with path.open("a") as file:
                file.write("4 5 6\n")
        asked.append(handle)
        return found

    monkeypatch.setattr(os, "fstat", grown)
    with pytest.raises(DataError, match="changed while it was read"):
        whole_file(path)
