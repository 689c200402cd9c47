"""Meshes as clouds for pictures: more points than a model sees, so that surfaces look closed."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sa3d.data.mesh import Mesh, sample_surface
from sa3d.data.preprocessing import Axis, unit_sphere_float64, upright

DENSE: Final = 10000


def dense_points(mesh: Mesh, up: Axis) -> NDArray[Any]:
    """:data:`DENSE` points of a surface, the same every time, within the unit sphere, y up."""
    points = sample_surface(mesh, DENSE, np.random.default_rng(0))[0]
    return upright(unit_sphere_float64(points), up)
