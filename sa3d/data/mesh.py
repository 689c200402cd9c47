"""Triangle meshes with a part index a face, and sampling their surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sa3d.errors import DataError


@dataclass(frozen=True)
class Mesh:
    """``vertices`` (V, 3) float64, ``faces`` (F, 3) vertex indices, ``parts`` (F,) part index."""

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    parts: NDArray[np.int64]


def areas(mesh: Mesh) -> NDArray[np.float64]:
    """Area of each face (F,), in squared units of the vertices."""
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    doubled: NDArray[np.float64] = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    return 0.5 * doubled


def sample_surface(
    mesh: Mesh, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """``count`` points uniform on the surface (count, 3), and the part of each (count,).

    Faces are drawn with probability proportional to area, points within them by the square
    root rule (Osada et al. 2002, section 3.2), in random order.

    Raises:
        DataError: no face, or a surface without area.
    """
    area = areas(mesh)
    total = float(area.sum())
    if len(area) == 0 or not np.isfinite(total) or total <= 0.0:
        raise DataError(f"a mesh of {len(area)} faces has area {total}: nothing to sample")
    faces = rng.choice(len(area), size=count, p=area / total)
    root = np.sqrt(rng.random((count, 1)))
    along = rng.random((count, 1))
    a, b, c = (mesh.vertices[mesh.faces[faces, i]] for i in range(3))
    points = (1.0 - root) * a + root * (1.0 - along) * b + root * along * c
    return points, mesh.parts[faces]
