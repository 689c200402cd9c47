"""Class-named folders of meshes to try things on: ``python examples/meshes.py FOLDER``.

The objects are those of the data source ``shapes``, as triangles: six classes, 30 files each, in
three formats. The same files every time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import trimesh

from sa3d.data.sources.shapes.categories import CATEGORIES
from sa3d.data.sources.shapes.solids import Assembly

CLASSES = ("airplane", "car", "chair", "lamp", "mug", "table")
FORMATS = ("stl", "obj", "ply")


def main() -> None:
    """Write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--each", type=int, default=30, help="files a class")
    given = parser.parse_args()
    for label, name in enumerate(CLASSES):
        category = CATEGORIES[name]
        (given.folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(given.each):
            assembly = Assembly()
            category.build(assembly, np.random.default_rng((label, number)))
            made = assembly.mesh({part: index for index, part in enumerate(category.parts)})
            mesh = trimesh.Trimesh(made.vertices, made.faces, process=False)
            suffix = FORMATS[number % len(FORMATS)]
            mesh.export(given.folder / name / f"{name}_{number:02d}.{suffix}")
    print(f"{given.each * len(CLASSES)} meshes in {given.folder}")


if __name__ == "__main__":
    main()
