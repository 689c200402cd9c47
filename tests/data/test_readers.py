"""Each format on small files written by hand or by its own library."""

from __future__ import annotations

import gzip
import io
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
from pypcd4.pypcd4 import Encoding, PointCloud
from reader_cases import (
    CORNERS,
    OBJ,
    OFF,
    PLY,
    STL,
    TWO,
    WRL,
    a_cloud,
    a_mesh,
    exported,
    pcd,
    refused,
    saved,
)

from sa3d import registry
from sa3d.data.mesh import Mesh, areas
from sa3d.data.readers import UNLABELLED, label_rank, read_cloud_or_mesh
from sa3d.errors import DataError


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


def test_a_file_is_found_by_its_suffix_in_any_case(tmp_path: Path) -> None:
    path = tmp_path / "PLATE.OBJ"
    path.write_text(OBJ)
    assert isinstance(read_cloud_or_mesh(path), Mesh)
    (tmp_path / "plate.blend").write_text(OBJ)
    with pytest.raises(DataError, match=r"plate\.blend: \.blend is not a format"):
        read_cloud_or_mesh(tmp_path / "plate.blend")
    with pytest.raises(DataError, match=r"gone\.obj: cannot be opened"):
        read_cloud_or_mesh(tmp_path / "gone.obj")


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
