"""HDF5 files of clouds of one size with a label each, as ModelNet40 and ScanObjectNN come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from sa3d.data.cloud_table import Cloud
from sa3d.data.sources.official import build
from sa3d.data.sources.official.arrays import as_rows
from sa3d.data.sources.official.files import unchanging
from sa3d.data.sources.official.survey import RawFile, Survey
from sa3d.data.spool import Spool, Stamp
from sa3d.errors import DataError
from sa3d.utils.files import unread
from sa3d.utils.progress import ProgressBar

Floats = NDArray[np.float32]
_BLOCK = 256  # clouds read at a time


def collect_hdf5(
    spool: Spool, survey: Survey, classes: int, label: str, quiet: bool
) -> list[build.Placed]:
    """Put the clouds of all files to ``spool``; cloud i of a split is called ``train-0000i``.

    Raises:
        DataError: as :func:`read_hdf5`. WriteError: a full disk.
    """
    placed: list[build.Placed] = []
    numbers: Counter[int] = Counter()
    with ProgressBar(label, sum(survey.official.values()), "clouds", quiet=quiet) as bar:
        for file in survey.files:
            for stamp, number, cloud_label, points in read_hdf5(file.path, classes):
                key = f"{file.key}#{number}"
                if not spool.has(key, stamp):
                    spool.add(key, stamp, build.digest_of(points.tobytes()), Cloud(points))
                split = "test" if file.split else "train"
                name = f"{split}-{numbers[file.split]:05d}"
                placed.append(build.Placed(name, cloud_label, file.split, key))
                numbers[file.split] += 1
                bar.update()
    return placed


def count_clouds(file: RawFile, classes: int) -> int:
    """Clouds of a file, all of which is read.

    Raises:
        DataError: as :func:`read_hdf5`.
    """
    return sum(1 for _ in read_hdf5(file.path, classes))


def read_hdf5(path: Path, classes: int) -> Iterator[tuple[Stamp, int, int, Floats]]:
    """Every cloud of ``path``: the file's stamp, the cloud's number, its label, its points.

    The file holds ``data`` (n, points, 3) and ``label`` (n,) or (n, 1).

    Raises:
        DataError: truncated, another layout, a label outside ``range(classes)``, a point that is
            not finite.
    """
    with unchanging(path) as stamp:
        try:
            with h5py.File(path, "r") as file:
                data, labels = file["data"], _labels(file, path, classes)
                if data.ndim != 3 or data.shape[2] != 3 or len(data) != len(labels):
                    raise DataError(
                        f"{path}: data {data.shape} and {len(labels)} labels, expected (clouds, "
                        "points, 3) and a label each"
                    )
                for first in range(0, len(data), _BLOCK):
                    for number, cloud in enumerate(data[first : first + _BLOCK], first):
                        points = as_rows(cloud, f"{path}, cloud {number}", (3,))
                        yield stamp, number, int(labels[number]), points
        except (OSError, KeyError, RuntimeError, ValueError, AttributeError, TypeError) as error:
            if unread(error):
                raise  # told by `unchanging`
            said = " ".join(str(error).split())  # h5py's messages have line feeds
            reason = "truncated" if "truncated" in said else f"damaged or foreign ({said[:200]})"
            raise DataError(f"{path} is {reason}; fetch it again") from error


def _labels(file: h5py.File, path: Path, classes: int) -> NDArray[np.int64]:
    """(n,) int64, whatever integers the file has."""
    found: NDArray[Any] = file["label"][()]
    if found.dtype.kind not in "iu":
        raise DataError(f"{path} has labels of type {found.dtype}, expected integers")
    labels = found.reshape(-1).astype(np.int64)
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise DataError(
            f"{path}: cloud {wrong[0]} has label {labels[wrong[0]]}, expected 0 to {classes - 1}"
        )
    return labels
