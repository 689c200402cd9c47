"""VRML 2.0 as a format among others: surfaces without their materials."""

from __future__ import annotations

from sa3d.data.mesh import Mesh
from sa3d.data.readers import unlabelled
from sa3d.data.readers.vrml import read_vrml


def read_wrl(data: bytes) -> Mesh:
    """The surfaces of a file."""
    surface = read_vrml(data)
    return Mesh(surface.vertices, surface.faces, unlabelled(len(surface.faces)))
