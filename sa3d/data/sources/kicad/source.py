"""The ``kicad`` source: CAD models of electronic components, KiCad's ``3dmodels``.

A class is a ``*.3dshapes`` folder, pin headers and pin sockets of all pitches merged to one
class each. Parts come from the VRML materials. Surfaces are sampled by area, axes turned from
KiCad's z up (board in the xy plane) to y up, clouds scaled to the unit sphere.

**Split by family.** The same part in many pin counts or sizes is one *family*: the file name
with every number taken out. A random split would put near-duplicates on both sides; here whole
families are held out, class by class, until their share of shapes is nearest ``test_fraction``.
A class of a single family cannot be split so and is left out, like one with few shapes.

**Without copies.** Many files hold the same geometry under other names, turned, or in another
class. Before the split, copies are merged or dropped and families that share a geometry, or have
mirror images of it, are joined: :mod:`sa3d.data.duplicates`. Variants told apart by a word
(``_Vertical``, ``_ThreadedFlange``) and of visibly different geometry still count as different
families.
"""

from __future__ import annotations

import hashlib
import re
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sa3d.data.cloud_table import Cloud, CloudTable
from sa3d.data.descriptors import descriptors, floor_accuracy
from sa3d.data.duplicates import Distinct, distinct
from sa3d.data.geometry import Moments, likeness, moments
from sa3d.data.mesh import Mesh, sample_surface
from sa3d.data.parallel import ordered_map
from sa3d.data.preprocessing import unit_sphere_float64
from sa3d.data.raw import RawCheck, raw_root
from sa3d.data.readers.vrml import VrmlError, read_vrml
from sa3d.data.sources.kicad.files import ModelFile, count_models, locate, model_files
from sa3d.data.sources.kicad.settings import KicadSource
from sa3d.data.split import hold_out
from sa3d.data.store import check_cloud
from sa3d.data.writing import write_clouds
from sa3d.errors import DataError
from sa3d.utils.files import unwritable
from sa3d.utils.progress import ProgressBar

SAMPLER_VERSION = 2
"""Raised whenever the clouds of the same files, or which of them are kept, change, so that the
source hash changes."""

PARTS = ("metal", "body", "ceramic", "lens", "marking")
"""Pins, cans and windings; moulded cases and boards; ceramic or resistive elements; LED and
glass; printed pin-1 marks and labels."""

SPLIT = (
    "Many parts exist in dozens of near-identical sizes, so the split is by family (the part's "
    "name without its numbers, joined with others that hold the same geometry): no family has "
    "clouds in both training and test, where a random split would leak near-duplicates. Copies of "
    "one geometry are merged, and those in several classes dropped."
)

_PART_OF = (
    ("PIN", 0),
    ("MET", 0),
    ("CAP", 2),
    ("RES", 2),
    ("LED", 3),
    ("GLASS", 3),
    ("IC-LABEL", 4),
)
_MERGED = re.compile(r"(Connector_Pin(?:Header|Socket))_[\d.]+mm$")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_UNREADABLE_SHARE = 0.02
_NAMED = 20


class _Task(NamedTuple):
    file: ModelFile
    points: int
    seed: int


@dataclass(frozen=True)
class _Cloud:
    """A sampled shape, or (points is None) why it could not be read."""

    folder: str
    stem: str
    digest: str
    points: NDArray[np.float32] | None
    parts: NDArray[np.uint8] | None
    shape: Moments | None
    reason: str = ""

    @property
    def id(self) -> str:
        return f"{self.folder}/{self.stem}"


def prepare(source: KicadSource, out: Path, *, quiet: bool = False) -> Path:
    """Sample every model below ``source.root`` and write the data set to ``out`` (``.h5``).

    Raises:
        DataError: nothing there, a half-downloaded package, too many unreadable meshes, no
            class with enough shapes. WriteError: a full disk.
    """
    place = locate(raw_root(source.root))
    out.parent.mkdir(parents=True, exist_ok=True)
    # the number of shapes that stay is known only at the end, so clouds wait on disk; the file
    # has no name and vanishes with the process
    with tempfile.TemporaryFile(dir=out.parent) as spool:
        clouds, parts = _sample_all(source, out, place, spool, quiet)
        return _write(source, out, place, clouds, parts, spool, quiet)


def check_raw(source: KicadSource) -> RawCheck:
    """What of the raw data is there."""
    try:
        place = locate(raw_root(source.root))
    except DataError as error:
        return RawCheck(raw_root(source.root), missing=(str(error),))
    if place.is_file():
        return RawCheck(place, {"MB": round(place.stat().st_size / 1e6, 1)})
    return RawCheck(place, {"models": count_models(place)})


def class_of(folder: str) -> str:
    """Class of a ``*.3dshapes`` folder's name without the suffix."""
    merged = _MERGED.match(folder)
    return merged.group(1) if merged else folder


def family_of(class_name: str, stem: str) -> str:
    """``DIP-14_W7.62mm`` and ``DIP-16_W10.16mm`` are both ``DIP-#_W#mm``."""
    return f"{class_name}/{_NUMBER.sub('#', stem)}"


def part_of(material: str) -> int:
    """Index into :data:`PARTS` of a material name; the case where it says nothing."""
    upper = material.upper()
    return next((part for prefix, part in _PART_OF if upper.startswith(prefix)), 1)


def sample_model(task: _Task) -> _Cloud:
    """One model to one cloud; pure in (file, points, seed), whichever process runs it."""
    folder, stem, text = task.file
    digest = hashlib.sha256(text).hexdigest()
    name = hashlib.sha256(f"{folder}/{stem}".encode()).digest()
    rng = np.random.default_rng((task.seed, int.from_bytes(name[:8], "little")))
    try:
        surface = read_vrml(text)
        of_material = np.array([part_of(material) for material in surface.materials])
        mesh = Mesh(surface.vertices, surface.faces, of_material[surface.material])
        points, parts = sample_surface(mesh, task.points, rng)
        upright = points[:, (0, 2, 1)] * (1.0, 1.0, -1.0)
        cloud = check_cloud(unit_sphere_float64(upright), f"{folder}/{stem}", task.points)
    except (VrmlError, DataError) as error:
        return _Cloud(folder, stem, digest, None, None, None, str(error))
    return _Cloud(folder, stem, digest, cloud, parts.astype(np.uint8), moments(mesh))


def _sample_all(
    source: KicadSource, out: Path, place: Path, spool: IO[bytes], quiet: bool
) -> tuple[list[_Cloud], list[NDArray[np.uint8]]]:
    """All clouds, their points moved to ``spool`` in order; unreadable ones keep their reason."""
    seen: list[_Cloud] = []
    parts: list[NDArray[np.uint8]] = []
    with ProgressBar("kicad", None, "models", quiet=quiet) as bar:
        tasks = (_Task(file, source.points, source.seed) for file in model_files(place, bar))
        for cloud in ordered_map(sample_model, tasks):
            if cloud.points is not None and cloud.parts is not None:
                try:
                    spool.write(cloud.points.tobytes())
                except OSError as error:
                    raise unwritable(out, error) from error
                parts.append(cloud.parts)
            seen.append(replace(cloud, points=None, parts=None))
            bar.update()
    try:
        spool.flush()
    except OSError as error:
        raise unwritable(out, error) from error
    return seen, parts


def _write(
    source: KicadSource,
    out: Path,
    place: Path,
    seen: list[_Cloud],
    parts: list[NDArray[np.uint8]],
    spool: IO[bytes],
    quiet: bool,
) -> Path:
    unreadable = [cloud for cloud in seen if cloud.reason]
    _check_unreadable(unreadable, len(seen), place)
    readable = [cloud for cloud in seen if not cloud.reason]
    twice = [name for name, count in Counter(cloud.id for cloud in readable).items() if count > 1]
    if twice:
        raise DataError(f"{place} holds '{twice[0]}' more than once; keep one copy of the models")
    rows, left_out, kept = _choose(readable, source.min_shapes)
    if not rows:
        raise DataError(
            f"{place}: none of {len(left_out)} classes has {source.min_shapes} shapes in two "
            f"families or more ({len(readable)} shapes read); lower min_shapes or add models"
        )
    chosen = [readable[row] for row in rows]
    of_class = [class_of(cloud.folder) for cloud in chosen]
    names = tuple(sorted(set(of_class)))
    labels = np.array([names.index(name) for name in of_class])
    family = np.unique(kept.families, return_inverse=True)[1].astype(np.int64)
    rng = np.random.default_rng(source.seed)
    test = hold_out(labels, family, source.test_fraction, rng)
    part_labels = np.stack([parts[row] for row in rows])
    shape = (len(readable), source.points, 3)
    points = np.memmap(spool, dtype=np.float32, mode="r", shape=shape)
    table = CloudTable(
        ids=[cloud.id for cloud in chosen],
        labels=labels,
        split=test.astype(np.uint8),
        family=family,
        class_names=names,
        part_names=PARTS,
        class_parts=tuple(
            tuple(np.unique(part_labels[labels == label]).tolist()) for label in range(len(names))
        ),
        source_hash=_source_hash(source, seen),
        normalisation="subsample",
    )
    facts = {
        "licence": source.about.licence,
        "split": SPLIT,
        **_floors(points, np.array(rows), labels, test, source),
        "unreadable": len(unreadable),
        "unreadable_examples": [f"{c.id}: {c.reason}" for c in unreadable[:_NAMED]],
        "left_out": dict(sorted(left_out.items())),
        **kept.facts(),
    }
    clouds = (Cloud(points[row], parts[row]) for row in rows)
    write_clouds(out, clouds, table, facts=facts)
    if (unreadable or left_out or kept.merged or kept.ambiguous) and not quiet:
        print(  # noqa: T201
            f"{len(unreadable)} of {len(seen)} models unreadable, {len(left_out)} classes left "
            f"out, {len(kept.merged)} copies merged, {len(kept.ambiguous)} shapes of several "
            f"classes dropped: see {out.with_suffix('.json')}",
            file=sys.stderr,
        )
    return out


def _check_unreadable(unreadable: list[_Cloud], total: int, place: Path) -> None:
    if len(unreadable) > max(1, _UNREADABLE_SHARE * total):
        first = "; ".join(f"{cloud.id}: {cloud.reason}" for cloud in unreadable[:3])
        raise DataError(
            f"{place}: {len(unreadable)} of {total} models cannot be read ({first}); "
            "the copy is damaged or of another format: fetch it again"
        )


def _choose(clouds: list[_Cloud], min_shapes: int) -> tuple[list[int], dict[str, str], Distinct]:
    """Rows to keep in order of class and name (so that the result does not hang on the order of
    the files), why classes are left out, and the families and what became of copies.

    A class that is left out makes no geometry ambiguous, since its label is not in the data set:
    where one is too small without its copies, the others are looked through again without it.
    """
    order = sorted(
        range(len(clouds)), key=lambda row: (class_of(clouds[row].folder), clouds[row].id)
    )
    ids = [clouds[row].id for row in order]
    classes = [class_of(clouds[row].folder) for row in order]
    families = [family_of(class_of(clouds[row].folder), clouds[row].stem) for row in order]
    names = set(classes)
    left_out = _too_small(names, classes, families, min_shapes)
    found = likeness([shape for row in order if (shape := clouds[row].shape) is not None])
    while True:
        wanted = np.array([name not in left_out for name in classes])
        kept = distinct(found, ids, classes, families, wanted)
        of_class = [classes[row] for row in kept.rows]
        too_small = _too_small(names - set(left_out), of_class, kept.families, min_shapes)
        if not too_small:
            return [order[row] for row in kept.rows], left_out, kept
        left_out |= {name: f"{why} without copies" for name, why in too_small.items()}


def _too_small(
    names: set[str], classes: list[str], families: list[str], min_shapes: int
) -> dict[str, str]:
    """Which of the classes ``names`` have too few shapes or families, and how many they have;
    ``classes`` and ``families`` are those of every shape."""
    shapes = Counter(classes)
    count = Counter(name for name, _ in set(zip(classes, families, strict=True)))
    return {
        name: f"{shapes[name]} shapes in {count[name]} families"
        for name in names
        if shapes[name] < min_shapes or count[name] < 2
    }


def _floors(
    points: NDArray[np.float32],
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    test: NDArray[np.bool_],
    source: KicadSource,
) -> dict[str, float]:
    """5-NN accuracy on this split, and on a random one of the same size: the leak it avoids."""
    table = descriptors(points)[rows]
    family = floor_accuracy(table, labels, np.flatnonzero(~test), np.flatnonzero(test))
    every = np.random.default_rng((source.seed, 1)).permutation(len(labels))
    held = int(test.sum())
    leaky = floor_accuracy(table, labels, every[held:], every[:held])
    return {
        "descriptor_5nn_accuracy": round(family, 4),
        "descriptor_5nn_accuracy_random_split": round(leaky, 4),
    }


def _source_hash(source: KicadSource, clouds: list[_Cloud]) -> str:
    """sha256 of what the clouds depend on: settings without the place, and every file."""
    digest = hashlib.sha256(
        f"kicad {SAMPLER_VERSION} {source.model_dump_json(exclude={'root'})}".encode()
    )
    for cloud in sorted(clouds, key=lambda cloud: cloud.id):
        digest.update(f"\n{cloud.id} {cloud.digest}".encode())
    return digest.hexdigest()
