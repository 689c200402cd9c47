"""Each format on small files written by hand or by its own library, and on damaged ones."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import resource
import struct
import sys
import time
import tracemalloc
from pathlib import Path

import laspy
import numpy as np
import pytest
import trimesh
from pypcd4.pypcd4 import Encoding, PointCloud

from sa3d import registry
from sa3d.data.cloud_table import Cloud
from sa3d.data.mesh import Mesh, areas
from sa3d.data.readers import (
    UNLABELLED,
    label_rank,
    read,
    read_cloud_or_mesh,
    whole_file,
)
from sa3d.data.readers.packed import unpacking_at_most
from sa3d.errors import DataError

CORNERS = np.array([[0, 0, 0], [2, 0, 0], [2, 3, 0], [0, 3, 0]], dtype=float)
TWO = np.array([[0, 1, 2], [0, 2, 3]])

OFF = "OFF\n4 2 0\n0 0 0\n2 0 0\n2 3 0\n0 3 0\n3 0 1 2\n3 0 2 3\n"
OBJ = "v 0 0 0\nv 2 0 0\nv 2 3 0\nv 0 3 0\nf 1 2 3\nf 1 3 4\n"
STL = (
    "solid x\n"
    + "".join(
        "facet normal 0 0 1\nouter loop\n"
        + "".join("vertex {} {} {}\n".format(*CORNERS[i]) for i in face)
        + "endloop\nendfacet\n"
        for face in TWO
    )
    + "endsolid x\n"
)
PLY = (
    "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\n"
    "property float z\nelement face 2\nproperty list uchar int vertex_indices\nend_header\n"
    "0 0 0\n2 0 0\n2 3 0\n0 3 0\n3 0 1 2\n3 0 2 3\n"
)
WRL = (
    "#VRML V2.0 utf8\nShape { geometry IndexedFaceSet { coordIndex [0,1,2,-1,0,2,3,-1] coord "
    "Coordinate { point [0 0 0,2 0 0,2 3 0,0 3 0] }}}\n"
)


def exported(kind: str, **options: object) -> bytes:
    mesh = trimesh.Trimesh(CORNERS, TWO, process=False)
    data = mesh.export(file_type=kind, **options)
    return data if isinstance(data, bytes) else data.encode()


def a_mesh(data: bytes | str, kind: str) -> Mesh:
    found = read(data if isinstance(data, bytes) else data.encode(), kind)
    assert isinstance(found, Mesh)
    return found


def a_cloud(data: bytes | str, kind: str) -> Cloud:
    found = read(data if isinstance(data, bytes) else data.encode(), kind)
    assert isinstance(found, Cloud)
    return found


def refused(data: bytes | str, kind: str) -> str:
    with pytest.raises(DataError) as caught:
        read(data if isinstance(data, bytes) else data.encode(), kind)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("off", OFF),
        ("off", OFF.replace("OFF\n4", "OFF4")),  # as in ModelNet
        ("off", "# made by hand\n" + OFF.replace("2 0 0\n", "2 0 0 # a corner\n")),
        ("off", OFF.replace("3 0 1 2\n", "3 0 1 2 0.5 0 0.25\n")),
        ("off", "C" + OFF.replace("2 3 0\n", "2 3 0 255 0 0\n")),
        ("obj", OBJ),
        ("obj", OBJ.replace("\n", "\r\n")),
        ("obj", "mtllib no.mtl\no one\nusemtl red\n" + OBJ),
        ("obj", OBJ.replace("f 1 2 3", "f -4 -3 -2")),
        ("stl", STL),
        ("stl", STL.replace("\n", "\r\n")),
        ("stl", exported("stl")),
        ("ply", PLY),
        ("ply", PLY.replace("\n", "\r\n")),
        ("ply", exported("ply")),
        ("glb", exported("glb")),
        ("wrl", WRL),
    ],
)
def test_a_rectangle_of_two_triangles(kind: str, data: bytes | str) -> None:
    mesh = a_mesh(data, kind)
    assert areas(mesh).tolist() == pytest.approx([3.0, 3.0])
    assert np.unique(mesh.vertices, axis=0).tolist() == [[0, 0, 0], [0, 3, 0], [2, 0, 0], [2, 3, 0]]
    assert (mesh.parts == UNLABELLED).all()


@pytest.mark.parametrize(
    ("kind", "data"), [("off", OFF), ("obj", OBJ), ("stl", exported("stl")), ("wrl", WRL)]
)
def test_what_gzip_packed_is_unpacked(kind: str, data: bytes | str) -> None:
    plain = data if isinstance(data, bytes) else data.encode()
    packed = gzip.compress(plain)
    assert areas(a_mesh(packed, kind)).tolist() == areas(a_mesh(plain, kind)).tolist()
    assert refused(packed[:-9], kind).startswith("is packed with gzip and damaged")


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


@pytest.mark.parametrize("kind", ["off", "obj", "ply"])
def test_polygons_are_cut_into_triangles(kind: str) -> None:
    text = {
        "off": OFF.replace("4 2 0", "4 1 0").replace("3 0 1 2\n3 0 2 3", "4 0 1 2 3"),
        "obj": OBJ.replace("f 1 2 3\nf 1 3 4", "f 1 2 3 4"),
        "ply": PLY.replace("face 2", "face 1").replace("3 0 1 2\n3 0 2 3", "4 0 1 2 3"),
    }
    assert areas(a_mesh(text[kind], kind)).sum() == pytest.approx(6.0)


def test_transforms_of_a_scene_are_applied() -> None:
    scene = trimesh.Scene()
    mesh = trimesh.Trimesh(CORNERS, TWO, process=False)
    scene.add_geometry(mesh, node_name="here", geom_name="plate")
    scene.add_geometry(mesh, node_name="there", geom_name="plate2")
    twice = np.diag([2.0, 2.0, 2.0, 1.0])
    twice[0, 3] = 10.0
    scene.graph["there"] = twice
    found = a_mesh(scene.export(file_type="glb"), "glb")
    assert areas(found).sum() == pytest.approx(6.0 + 4 * 6.0)
    assert found.vertices.max(axis=0).tolist() == [14.0, 6.0, 0.0]


def test_labels_of_a_ply() -> None:
    cloud = PLY.split("element face")[0].replace("float z", "float z\nproperty int Part_Label")
    rows = "0 0 0 5\n2 0 0 5\n2 3 0 7\n0 3 0 7\n"
    found = a_cloud(cloud + "end_header\n" + rows, "ply")
    assert found.points.tolist() == CORNERS.tolist()
    assert found.parts is not None
    assert found.parts.tolist() == [5, 5, 7, 7]
    mesh = PLY.replace("float z", "float z\nproperty int label")
    for corner, label in zip(("0 0 0", "2 0 0", "2 3 0", "0 3 0"), (5, 5, 7, 7), strict=True):
        mesh = mesh.replace(f"\n{corner}\n", f"\n{corner} {label}\n")
    assert a_mesh(mesh, "ply").parts.tolist() == [5, 7]  # of the most corners
    of_face = PLY.replace("vertex_indices", "vertex_indices\nproperty int label")
    of_face = of_face.replace("3 0 1 2", "3 0 1 2 9").replace("3 0 2 3", "3 0 2 3 4")
    assert a_mesh(of_face, "ply").parts.tolist() == [9, 4]


def test_labels_of_a_binary_ply() -> None:
    mesh = trimesh.Trimesh(CORNERS, TWO, process=False)
    mesh.face_attributes["label"] = np.array([3, 8], dtype=np.int32)
    assert a_mesh(mesh.export(file_type="ply"), "ply").parts.tolist() == [3, 8]
    cloud = PLY.split("element face")[0].replace("ascii", "binary_big_endian")
    body = np.array(
        [(*xyz, 2) for xyz in CORNERS], dtype=[*((a, ">f4") for a in "xyz"), ("l", ">u2")]
    )
    header = cloud.replace("float z", "float z\nproperty ushort segment") + "end_header\n"
    found = a_cloud(header.encode() + body.tobytes(), "ply")
    assert found.points.tolist() == CORNERS.tolist()
    assert found.parts is not None
    assert found.parts.tolist() == [2] * 4


def pcd(encoding: Encoding, labelled: bool = True, count: int = 100) -> bytes:
    rng = np.random.default_rng(0)
    points = np.c_[rng.normal(size=(count, 3)), np.arange(count) % 4].astype(np.float32)
    cloud = (
        PointCloud.from_xyzl_points(points, label_type=np.uint32)
        if labelled
        else PointCloud.from_xyz_points(points[:, :3])
    )
    stream = io.BytesIO()
    cloud.save(stream, encoding=encoding)
    return stream.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
def test_a_pcd_in_each_encoding(encoding: str) -> None:
    found = a_cloud(pcd(Encoding(encoding)), "pcd")
    expected = np.random.default_rng(0).normal(size=(100, 3))
    np.testing.assert_allclose(found.points, expected, atol=1e-6)
    assert found.parts is not None
    assert found.parts.tolist() == [i % 4 for i in range(100)]
    assert a_cloud(pcd(Encoding(encoding), labelled=False), "pcd").parts is None


def test_pixels_of_a_pcd_that_saw_nothing_are_left_out() -> None:
    points = np.ones((5, 3), dtype=np.float32)
    points[1] = np.nan
    stream = io.BytesIO()
    PointCloud.from_xyz_points(points).save(stream)
    assert len(a_cloud(stream.getvalue(), "pcd").points) == 4


def saved(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def test_numpy_files() -> None:
    stream = io.BytesIO()
    np.save(stream, CORNERS)
    assert a_cloud(stream.getvalue(), "npy").points.tolist() == CORNERS.tolist()
    labels = np.array([1, 1, 2, 2])
    found = a_cloud(saved(xyz=CORNERS, part_labels=labels, label=np.array(3)), "npz")
    assert found.parts is not None
    assert found.parts.tolist() == labels.tolist()
    assert (
        a_cloud(
            saved(
                arr_0=CORNERS,
            ),
            "npz",
        ).parts
        is None
    )
    assert a_cloud(saved(points=CORNERS, label=np.array(3)), "npz").parts is None  # of the cloud
    assert "'points'" in refused(saved(a=CORNERS, b=CORNERS), "npz")


@pytest.mark.parametrize("separator", [" ", ",", ", ", "\t"])
def test_columns_of_a_text_file(separator: str) -> None:
    def text(*rows: tuple[float, ...]) -> str:
        return "\n".join(separator.join(map(str, row)) for row in rows) + "\n"

    assert a_cloud(text((1, 2, 3), (4, 5, 6)), "xyz").points.tolist() == [[1, 2, 3], [4, 5, 6]]
    labelled = a_cloud("# x y z part\n" + text((1, 2, 3, 0), (4, 5, 6, 2)), "txt")
    assert labelled.parts is not None
    assert labelled.parts.tolist() == [0, 2]
    assert a_cloud(text((1, 2, 3, 0.5), (4, 5, 6, 2)), "txt").parts is None  # an intensity
    assert a_cloud(text((1, 2, 3, 0, 0, 1), (4, 5, 6, 0, 0, 1)), "txt").parts is None
    both = a_cloud(text((1, 2, 3, 0, 0, 1, 4), (4, 5, 6, 0, 0, 1, 4)), "txt")
    assert both.parts is not None
    assert both.parts.tolist() == [4, 4]
    assert a_cloud(b"\xef\xbb\xbf1 2 3\r\n4 5 6\r\n", "txt").points.tolist() == [
        [1, 2, 3],
        [4, 5, 6],
    ]


def test_names_of_labels() -> None:
    for name in ("label", "Labels", "part", "part_label", "scalar_Label", "segmentation", "seg"):
        assert label_rank(name) is not None, name
    for name in ("red", "intensity", "nx", "x", "partial", "class_probability"):
        assert label_rank(name) is None, name
    assert label_rank("part") < label_rank("label")  # type: ignore[operator]


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


def test_a_file_is_found_by_its_suffix_in_any_case(tmp_path: Path) -> None:
    path = tmp_path / "PLATE.OBJ"
    path.write_text(OBJ)
    assert isinstance(read_cloud_or_mesh(path), Mesh)
    (tmp_path / "plate.blend").write_text(OBJ)
    with pytest.raises(DataError, match=r"plate\.blend: \.blend is not a format"):
        read_cloud_or_mesh(tmp_path / "plate.blend")
    with pytest.raises(DataError, match=r"gone\.obj: cannot be opened"):
        read_cloud_or_mesh(tmp_path / "gone.obj")


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


def test_nothing_beside_a_file_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "plate.obj"
    path.write_text("mtllib plate.mtl\nusemtl red\n" + OBJ)
    (tmp_path / "plate.mtl").write_text("newmtl red\nmap_Kd /etc/passwd\n")
    read_cloud_or_mesh(path)  # imports what it needs
    opened: list[str] = []
    listening = True

    def listen(event: str, arguments: tuple[object, ...]) -> None:
        if listening and event == "open":
            opened.append(str(arguments[0]))

    sys.addaudithook(listen)
    read_cloud_or_mesh(path)
    listening = False
    assert opened == [str(path)]


def test_every_reader_is_there() -> None:
    for kind in registry.READERS:
        assert callable(registry.load(registry.READERS, "format", kind))
