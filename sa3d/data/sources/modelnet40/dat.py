"""ModelNet's pickles: a list of clouds (8192, 6) with normals, a list of labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from sa3d.data.cloud_table import Cloud
from sa3d.data.sources.official import build
from sa3d.data.sources.official.arrays import Floats, as_rows
from sa3d.data.sources.official.files import unchanging
from sa3d.data.sources.official.pickles import one_integer, pickle_progress, read_pickle
from sa3d.data.sources.official.survey import RawFile
from sa3d.data.spool import Spool
from sa3d.errors import DataError


def unpack_all(
    spool: Spool,
    files: Sequence[RawFile],
    classes: int,
    label: str,
    points: int | None,
    quiet: bool,
) -> list[build.Placed]:
    """Put the clouds of the pickles to ``spool``; cloud i of a split is called ``train-0000i``.

    Raises:
        DataError: a pickle of anything else. WriteError: a full disk.
    """
    placed = []
    with pickle_progress(label, [each.path for each in files], quiet) as bar:
        for file in files:
            with unchanging(file.path) as stamp:

                def keep(
                    number: int, rows: Floats, file: RawFile = file, stamp: Any = stamp
                ) -> None:
                    key = f"{file.key}#{number}"
                    if not spool.has(key, stamp):
                        cloud = build.fewer(Cloud(rows[:, :3], normals=rows[:, 3:]), points)
                        spool.add(key, stamp, build.digest_of(rows.tobytes()), cloud)

                labels = _read(file.path, classes, keep, bar.update)
            split = "test" if file.split else "train"
            placed += [
                build.Placed(f"{split}-{number:05d}", each, file.split, f"{file.key}#{number}")
                for number, each in enumerate(labels)
            ]
    return placed


def count_clouds(file: RawFile, classes: int) -> int:
    """Clouds of a pickle, all of which is read.

    Raises:
        DataError: as :func:`unpack_all`.
    """
    with unchanging(file.path):
        return len(_read(file.path, classes, lambda number, rows: None, None))


def _read(
    path: Path,
    classes: int,
    keep: Callable[[int, Floats], None],
    moved: Callable[[int], object] | None,
) -> list[int]:
    """The labels; each cloud's number and rows (n, 6) go to ``keep``."""
    count = 0

    def hand(array: NDArray[Any]) -> int:
        nonlocal count
        keep(count, as_rows(array, f"{path}, cloud {count}", (6,)))
        count += 1
        return count - 1

    found = read_pickle(path, hand, moved)
    if not (
        isinstance(found, list)
        and len(found) == 2
        and all(isinstance(each, list) for each in found)
        and found[0] == list(range(count))
        and len(found[1]) == count
    ):
        raise DataError(
            f"{path} is not a list of clouds and a list of their labels; fetch it again"
        )
    return [one_integer(each, f"{path}, cloud {n}", classes) for n, each in enumerate(found[1])]
