"""An index of shapes: features of all files of a folder, in one file that is brought up to date.

    index = sa3d.build_index("parts/")
    for near in index.nearest("query.stl"):
        print(near.similarity, near.path)

The file is an ``.npz``. Paths in it are relative to its own folder, so that an index may be moved
together with the files that it is of.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from sa3d import __version__
from sa3d.checkpoints.card import model_digest
from sa3d.data.preprocessing import Axis
from sa3d.data.readers.arrays import array_of
from sa3d.errors import CheckpointError, DataError, UnreadDataError
from sa3d.inference.clouds import Failure
from sa3d.inference.encoder import Encoder, load_encoder
from sa3d.inference.locating import BOXED, REGISTERED
from sa3d.utils.files import unread, write_whole

if TYPE_CHECKING:
    from sa3d.inference.neighbours import Group, Near

NAME: Final = ".sa3d-index.npz"
"""The index of a folder, in that folder; no command takes a hidden file for a cloud."""
KEPT: Final = 1024
"""Most points that are kept of a shape, for pictures and to compare geometry."""
NAMELESS: Final = "\0"
"""In a reason, where the name of the file belongs: it depends on how a person names it."""
UNIT: Final = 32767
"""What a coordinate of 1 is kept as."""

_VERSION: Final = 1
_ABOUT: Final = "sa3d_index"  # the first array of an index, by which its file is known
_START: Final = 64  # bytes of a file in which the name of its first array stands

Floats = NDArray[np.float32]


class Model:
    """The encoder of an index, loaded when it is first needed.

    Args:
        name: as for :func:`~sa3d.inference.encoder.load_encoder`.
    """

    def __init__(self, name: str | Path | None) -> None:
        self._registered = name is not None and str(name).startswith(REGISTERED)
        self.name: str | None = None
        if name is not None:
            self.name = str(name) if self._registered else str(absolute(Path(name)))

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder itself."""
        return load_encoder(self.name)

    @cached_property
    def digest(self) -> str:
        """sha256 of its weights; nothing heavy is loaded for it unless it is a registered one."""
        if self._registered:
            return str(self.encoder.card["sha256"])
        return model_digest(BOXED if self.name is None else Path(self.name))


@dataclass(frozen=True)
class Change:
    """What bringing an index up to date did: how many files were ``new``, ``changed`` and ``gone``;
    ``failures``, which are not in the index; ``anew``: why everything was read again, if it was."""

    new: int = 0
    changed: int = 0
    gone: int = 0
    failures: tuple[Failure, ...] = ()
    anew: str = ""

    @property
    def any(self) -> bool:
        """Whether the index is not what it was."""
        return bool(self.new or self.changed or self.gone or self.anew)


class Unread(NamedTuple):
    """A file that could not be read when it had this size and time of change; ``reason`` has
    :data:`NAMELESS` where the name of the file belongs."""

    path: Path
    stamp: tuple[int, int]
    reason: str


@dataclass(frozen=True, eq=False)
class Index:
    """Shapes that can be searched.

    Attributes:
        paths: of the files, absolute.
        stamps: (S, 2) size and time of change (ns) of each file when it was read.
        features: (S, D), as the encoder gave them.
        points: (S, P, 3) of each shape, y up, as :func:`kept` made them.
        model: the encoder, as :func:`~sa3d.inference.encoder.load_encoder` takes it.
        digest: sha256 of its weights.
        up: the axis of the files that points up.
        unread: files that could not be read; they are not tried again until they change.
        change: what the last update did.
    """

    paths: tuple[Path, ...]
    stamps: NDArray[np.int64]
    features: Floats
    points: NDArray[np.int16]
    model: str | None
    digest: str
    up: Axis = "y"
    unread: tuple[Unread, ...] = ()
    change: Change = field(default=Change())

    def __len__(self) -> int:
        return len(self.paths)

    def cloud(self, row: int) -> Floats:
        """The points (P, 3) that are kept of a shape; the farthest has radius 1."""
        found: Floats = self.points[row].astype(np.float32) / np.float32(UNIT)
        return found

    def nearest(self, query: str | Path, *, top: int = 5) -> tuple[Near, ...]:
        """The shapes that are most similar to that of a file, best first, without the file itself.

        Raises:
            DataError: the file cannot be read.
            CheckpointError: the encoder of this index is gone, or has other weights now.
        """
        from sa3d.inference.neighbours import search

        found = search(self, [Path(query)], top=top)
        if found.failures:
            raise DataError(found.failures[0].reason)
        return found.answers[0].nearest

    def duplicates(self) -> list[Group]:
        """Groups of shapes that cannot be told apart, but for their size; large groups first."""
        from sa3d.inference.neighbours import duplicates

        return duplicates(self)


def kept(points: NDArray[np.float32]) -> NDArray[np.int16]:
    """What is kept of shapes (B, N, 3): (B, P, 3), from the middle of the bounding box, scaled to
    the largest radius, in 16 bits."""
    chosen = points[:, :KEPT].astype(np.float64)
    chosen -= (chosen.max(axis=1, keepdims=True) + chosen.min(axis=1, keepdims=True)) / 2
    radius = np.sqrt((chosen**2).sum(axis=2).max(axis=1))[:, None, None]
    return np.rint(chosen / np.where(radius > 0, radius, 1.0) * UNIT).astype(np.int16)


def absolute(path: Path) -> Path:
    """The path from the root, without ``..``; links stay as they are."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def id_of(path: Path) -> str:
    """What an encoder calls a file: its name, with bytes that are no text spelled out."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def stamp_of(file: Path) -> tuple[int, int]:
    """Size and time of change; of a file that is not there, what no file has."""
    try:
        found = file.stat()
    except OSError:
        return (-1, 0)
    return (found.st_size, found.st_mtime_ns)


# --- the file ------------------------------------------------------------------------------


def save_index(place: Path, index: Index) -> None:
    """Write an index, whole.

    Raises:
        WriteError: full disk, no permission.
    """
    folder = absolute(place).parent
    about = {
        "version": _VERSION,
        "model": index.model,
        "digest": index.digest,
        "up": index.up,
        "paths": [os.path.relpath(path, folder) for path in index.paths],
        "program": __version__,
        "unread": [
            (os.path.relpath(each.path, folder), *each.stamp, each.reason) for each in index.unread
        ],
    }
    buffer = io.BytesIO()
    np.savez(
        buffer,
        sa3d_index=np.array(json.dumps(about)),  # what _ABOUT says
        stamps=index.stamps,
        features=index.features,
        points=index.points,
    )
    write_whole(place, buffer.getbuffer())


def open_index(place: str | Path) -> Index:
    """An index from its file; nothing is brought up to date.

    Raises:
        DataError: no such file, no index, or a damaged one.
    """
    file = Path(place)
    try:
        if not _is_index(file):
            raise DataError(
                f"{file} is no index of shapes, which `sa3d index FOLDER` makes; `sa3d search` "
                "takes the index or folder first, then the queries"
            )
        with np.load(file, allow_pickle=False) as stored:
            about = json.loads(str(array_of(stored, _ABOUT)))
            if about["version"] != _VERSION:
                raise DataError(
                    f"{file} is an index of version {about['version']}, this program reads "
                    f"{_VERSION}; delete it and run `sa3d index` again"
                )
            folder = absolute(file).parent
            found = Index(
                tuple(absolute(folder / path) for path in about["paths"]),
                np.asarray(array_of(stored, "stamps"), dtype=np.int64),
                np.asarray(array_of(stored, "features"), dtype=np.float32),
                np.asarray(array_of(stored, "points"), dtype=np.int16),
                None if about["model"] is None else str(about["model"]),
                str(about["digest"]),
                cast("Axis", {"x": "x", "y": "y", "z": "z"}[about["up"]]),
                _unread(about, folder),
            )
    except FileNotFoundError:
        raise DataError(
            f"no folder and no index {file}; give a folder of shapes, or an index that "
            "`sa3d index FOLDER` made"
        ) from None
    except OSError as error:
        if (why := unread(error)) is not None:
            raise UnreadDataError(f"{file} {why}") from error
        raise DataError(_damaged(file)) from None
    except _DAMAGED:
        raise DataError(_damaged(file)) from None
    rows = len(found)
    fits = (
        rows > 0
        and found.stamps.shape == (rows, 2)
        and found.features.ndim == 2
        and found.points.ndim == found.features.ndim + 1
        and len(found.features) == len(found.points) == rows
        and found.points.shape[1] > 0
        and found.points.shape[2] == 3
        and bool(np.isfinite(found.features).all())
    )
    if not fits:
        raise DataError(_damaged(file))
    return found


# what numpy, zipfile and json raise on content that is not what it should be
_DAMAGED: Final = (
    EOFError, KeyError, ValueError, TypeError, AttributeError, NotImplementedError, RecursionError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def _unread(about: dict[str, Any], folder: Path) -> tuple[Unread, ...]:
    """The files that could not be read; another version of this program may be able to."""
    if about.get("program") != __version__:
        return ()
    return tuple(
        Unread(absolute(folder / path), (int(size), int(changed)), str(reason))
        for path, size, changed, reason in about["unread"]
    )


def _is_index(file: Path) -> bool:
    """Whether a file is an index, whole or not, by its name or its first bytes."""
    with file.open("rb") as opened:
        start = opened.read(_START)
    return file.name == NAME or (start.startswith(b"PK") and f"{_ABOUT}.npy".encode() in start)


def _damaged(file: Path) -> str:
    return f"{file} is a damaged index of shapes; delete it and run `sa3d index` again"


def check_encoder(index: Index, model: Model) -> None:
    """Refuse to compare features of two encoders.

    Raises:
        CheckpointError: ``model`` has other weights than the one that made the index.
    """
    if model.digest != index.digest:
        name = "the encoder that comes with this program" if model.name is None else model.name
        raise CheckpointError(
            f"the index was made by another encoder (sha256 {index.digest[:12]}…) than {name} is "
            f"now ({model.digest[:12]}…): run `sa3d index` again"
        )
