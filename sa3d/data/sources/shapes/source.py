"""The ``shapes`` source: labelled parametric objects made from a seed, no download.

Each cloud depends only on (seed, category, number): more shapes a class leave the first ones as
they were. Every shape is its own family.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from sa3d.data.cloud_table import Cloud, CloudTable
from sa3d.data.descriptors import knn_accuracy
from sa3d.data.mesh import sample_surface
from sa3d.data.preprocessing import unit_sphere_float64
from sa3d.data.raw import RawCheck
from sa3d.data.sources.shapes.categories import CATEGORIES, Category
from sa3d.data.sources.shapes.settings import ShapesSource
from sa3d.data.sources.shapes.solids import Assembly
from sa3d.data.split import hold_out
from sa3d.data.writing import write_clouds
from sa3d.utils.progress import ProgressBar

GENERATOR_VERSION = 2
"""Raised whenever the generated clouds change, so that the source hash changes with them."""

SPLIT = "A fixed share of every class is held out as test."

_STRETCH = (0.7, 1.45)


def prepare(source: ShapesSource, out: Path, *, quiet: bool = False) -> Path:
    """Generate the data set of ``source`` and write it to ``out`` (``.h5``)."""
    names, part_names, part_index = _names()
    count = len(names) * source.shapes_per_class
    points = np.empty((count, source.points, 3), dtype=np.float32)
    parts = np.empty((count, source.points), dtype=np.uint8)
    ids = []
    with ProgressBar("generating", count, "shapes", quiet=quiet) as bar:
        for row in range(count):
            label, number = divmod(row, source.shapes_per_class)
            points[row], parts[row] = make_cloud(
                CATEGORIES[names[label]],
                part_index[names[label]],
                np.random.default_rng((source.seed, label, number)),
                points=source.points,
                noise=source.noise,
            )
            ids.append(f"{names[label]}/{number:05d}")
            bar.update()
    labels = np.repeat(np.arange(len(names)), source.shapes_per_class)
    # the split has its own stream, so that it does not hang on how clouds are drawn
    rng = np.random.default_rng((source.seed, len(names)))
    test = hold_out(labels, np.arange(count), source.test_fraction, rng)
    table = CloudTable(
        ids=ids,
        labels=labels,
        split=test.astype(np.uint8),
        family=np.arange(count),
        class_names=names,
        part_names=part_names,
        class_parts=tuple(tuple(part_index[name].values()) for name in names),
        source_hash=source_hash(source),
        normalisation="subsample",
    )
    floor = knn_accuracy(points, labels, np.flatnonzero(~test), np.flatnonzero(test))
    facts = {
        "licence": source.about.licence,
        "split": SPLIT,
        "descriptor_5nn_accuracy": round(floor, 4),
    }
    return write_clouds(out, map(Cloud, points, parts), table, facts=facts)


def check_raw(source: ShapesSource) -> RawCheck:
    """Nothing is needed."""
    return RawCheck(None)


def source_hash(source: ShapesSource) -> str:
    """sha256 of the settings and the generator's version."""
    text = f"shapes {GENERATOR_VERSION} {source.model_dump_json()}"
    return hashlib.sha256(text.encode()).hexdigest()


def make_cloud(
    category: Category,
    part_index: dict[str, int],
    rng: Generator,
    *,
    points: int,
    noise: float,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """One random object of ``category``: (points, 3) in the unit sphere, (points,) part index.

    Surface samples, stretched along each axis, turned about y by a random angle, with Gaussian
    noise of s.d. ``noise`` (in radii of the object), scaled to the unit sphere again.
    """
    assembly = Assembly()
    category.build(assembly, rng)
    cloud, parts = sample_surface(assembly.mesh(part_index), points, rng)
    cloud *= rng.uniform(*_STRETCH, size=3)
    angle = rng.uniform(0.0, 2.0 * np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    cloud = cloud @ np.array([[cos, 0.0, -sin], [0.0, 1.0, 0.0], [sin, 0.0, cos]])
    noisy = unit_sphere_float64(cloud) + rng.normal(0.0, noise, size=cloud.shape)
    return unit_sphere_float64(noisy), parts.astype(np.uint8)


def _names() -> tuple[tuple[str, ...], tuple[str, ...], dict[str, dict[str, int]]]:
    """Class names, part names over all classes (``chair/leg``), and each class's part numbers.

    Parts are numbered class by class, as in ShapeNetPart: no class shares one.
    """
    part_names: list[str] = []
    part_index: dict[str, dict[str, int]] = {}
    for name, category in CATEGORIES.items():
        start = len(part_names)
        part_names += [f"{name}/{part}" for part in category.parts]
        part_index[name] = {part: start + i for i, part in enumerate(category.parts)}
    return tuple(CATEGORIES), tuple(part_names), part_index
