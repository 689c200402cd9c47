"""File formats of 3-D models: one module a family of formats, named in ``sa3d.registry.READERS``.

A reader is a function from the bytes of a file to a :class:`~sa3d.data.cloud_table.Cloud` or a
:class:`~sa3d.data.mesh.Mesh`, in the coordinates of the file. Its part labels are the numbers that
the file has, whatever they are; a mesh without any has :data:`UNLABELLED` everywhere. What cannot
be read is a ``ValueError`` or any other error of the library that tried; :func:`read` makes one
line of it, and unpacks what gzip packed.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sa3d import registry
from sa3d.data.cloud_table import Cloud
from sa3d.data.coordinates import unusable_row
from sa3d.data.mesh import Mesh, areas
from sa3d.data.readers.packed import unpacked
from sa3d.errors import DataError

UNLABELLED: Final = -1

_LABEL_NAMES: Final = (
    "part",
    "partlabel",
    "partid",
    "label",
    "pointlabel",
    "vertexlabel",
    "facelabel",
    "seg",
    "seglabel",
    "segment",
    "segmentation",
    "segmentlabel",
    "semantic",
    "semanticlabel",
)


def read_cloud_or_mesh(path: Path) -> Cloud | Mesh:
    """The points or the surface that a file of any known format holds.

    Raises:
        DataError: a format that is not known, a file that cannot be read or that is not whole, a
            coordinate that is not finite, no point, no surface; with the path.
    """
    path = Path(path)
    try:
        return read(whole_file(path), format_of(path.name))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def format_of(name: str) -> str:
    """The format of a file by the suffix of its name: lower case, without the dot."""
    return os.path.splitext(name)[1][1:].lower()  # noqa: PTH122 - called for every file of a folder


def whole_file(path: Path) -> bytes:
    """The content of a file, opened once.

    Raises:
        DataError: not there, not to be opened, or of another length at the end than at the start.
    """
    try:
        with path.open("rb", buffering=0) as file:
            before = os.fstat(file.fileno())
            data = file.readall()
            after = os.fstat(file.fileno())
    except OSError as error:
        raise DataError(f"cannot be opened ({error.strerror or error})") from error
    if len(data) != before.st_size or before.st_mtime_ns != after.st_mtime_ns:
        raise DataError("changed while it was read; wait until it is whole")
    return data


def read(data: bytes, kind: str) -> Cloud | Mesh:
    """What a file of format ``kind`` with this content holds.

    Raises:
        DataError: as :func:`read_cloud_or_mesh`, without the path.
    """
    if kind not in registry.READERS:
        known = ", ".join(f".{name}" for name in registry.READERS)
        raise DataError(f".{kind} is not a format that can be read; those are {known}")
    reader = registry.load(registry.READERS, "format", kind)
    if not data:
        raise DataError("the file is empty")
    try:
        data = unpacked(data)
    except ValueError as error:
        raise DataError(str(error)) from error
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            # of numpy's text parser: it ends at the first thing that is not a number
            warnings.simplefilter("error", DeprecationWarning)
            warnings.simplefilter("ignore", UserWarning)
            found: Cloud | Mesh = reader(data)
    except ModuleNotFoundError:  # of the reader's library, which says nothing of the file
        raise
    except Exception as error:  # whatever a library raises on a file that is not what it expects
        said = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"not a whole .{kind} file: {said[:200]}") from error
    if isinstance(found, Mesh):
        _check_mesh(found)
    else:
        _check_points("point", np.asarray(found.points))
    return found


def is_label(name: str) -> bool:
    """Whether a column or property of this name holds part labels."""
    return label_rank(name) is not None


def label_rank(name: str) -> int | None:
    """Place of a name among those that part labels go by; None for any other name.

    Case, underscores, a plural and CloudCompare's ``scalar_`` do not count.
    """
    plain = name.lower().removeprefix("scalar_").replace("_", "").replace("-", "").rstrip("s")
    return _LABEL_NAMES.index(plain) if plain in _LABEL_NAMES else None


def whole_numbers(values: NDArray[np.generic], name: str) -> NDArray[np.int64]:
    """A label column (n,) as integers.

    Raises:
        ValueError: one of them is not a whole number.
    """
    numbers = np.asarray(values).reshape(-1)
    whole: NDArray[np.int64] = numbers.astype(np.int64)
    if not (whole == numbers).all():
        raise ValueError(f"the labels '{name}' are not whole numbers")
    return whole


def unlabelled(faces: int) -> NDArray[np.int64]:
    """The parts of a mesh that has none."""
    return np.full(faces, UNLABELLED, dtype=np.int64)


def _check_points(what: str, points: NDArray[np.generic]) -> None:
    if points.ndim != 2 or points.shape[1] != 3 or len(points) == 0:
        raise DataError(f"the {what} array has shape {points.shape}, expected (n, 3)")
    if (row := unusable_row(points)) is not None:
        if not np.isfinite(points[row].astype(np.float64)).all():
            raise DataError(f"{what} {row} is not finite: {points[row].tolist()}")
        raise DataError(
            f"{what} {row} is at {points[row].tolist()}, which no coordinate is; is the file "
            "written in another byte order than it says?"
        )


def _check_mesh(mesh: Mesh) -> None:
    if len(mesh.faces) == 0:
        raise DataError(f"a mesh of {len(mesh.vertices)} vertices without a single face")
    _check_points("vertex", mesh.vertices)
    if mesh.faces.min() < 0 or mesh.faces.max() >= len(mesh.vertices):
        raise DataError(f"a face names a vertex outside the {len(mesh.vertices)} that there are")
    total = float(areas(mesh).sum())
    if not 0.0 < total < np.inf:
        raise DataError(f"the surface of its {len(mesh.faces)} faces has area {total:g}")
