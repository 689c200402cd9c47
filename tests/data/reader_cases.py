"""Small files of each format, written by hand or by the library of the format."""

from __future__ import annotations

import io

import numpy as np
import pytest
import trimesh
from pypcd4.pypcd4 import Encoding, PointCloud

from sa3d.data.cloud_table import Cloud
from sa3d.data.mesh import Mesh
from sa3d.data.readers import read
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


def saved(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()
