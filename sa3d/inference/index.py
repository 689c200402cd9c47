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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from sa3d.checkpoints.card import model_digest
from sa3d.data.preprocessing import Axis
from sa3d.errors import CheckpointError, DataError, UnreadDataError
from sa3d.inference.clouds import Failure
from sa3d.inference.encoder import Encoder, load_encoder
from sa3d.inference.inputs import expand
from sa3d.inference.locating import BOXED, REGISTERED
from sa3d.utils.files import unread, write_whole

if TYPE_CHECKING:
    from sa3d.inference.neighbours import Group, Near

NAME: Final = ".sa3d-index.npz"
"""The index of a folder, in that folder; no command takes a hidden file for a cloud."""
KEPT: Final = 1024
"""Most points that are kept of a shape, for pictures and to compare geometry."""
UNIT: Final = 32767
"""What a coordinate of 1 is kept as."""

_VERSION: Final = 1

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
        change: what the last update did.
    """

    paths: tuple[Path, ...]
    stamps: NDArray[np.int64]
    features: Floats
    points: NDArray[np.int16]
    model: str | None
    digest: str
    up: Axis = "y"
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


def build_index(
    words: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    *,
    model: str | Path | None = None,
    up: Axis | None = None,
    watch: Callable[[Sequence[Path]], Iterable[Path]] | None = None,
) -> Index:
    """The index of all shapes in files and folders, made or brought up to date; written whole.

    Files that are as they were are not read again, and those that are no longer there are dropped.

    Args:
        words: files, folders and patterns.
        out: where the index is; None: ``.sa3d-index.npz`` in the folder that is the only word.
        model: as for :func:`~sa3d.inference.encoder.load_encoder`; None: that of the index that is
            there, else the one that comes with this package.
        up: the axis of the files that points up; None: that of the index that is there, else y.
        watch: gets the files that are to be read and gives them back one by one, to show progress.

    Raises:
        DataError: an index that is damaged; not one file could be read.
        CheckpointError: no such model.
        WriteError: the index cannot be written.
    """
    given = [words] if isinstance(words, str | Path) else list(words)
    place = place_of(given) if out is None else Path(out)
    old = open_index(place) if place.exists() else None
    encoder = Model(old.model if old is not None and model is None else model)
    axis = up or (old.up if old is not None else "y")
    anew = _anew(old, encoder, axis)
    files, missing = expand([str(word) for word in given], ())
    found = _updated(
        () if old is None else old.paths, None if anew else old, files, encoder, axis, watch or iter
    )
    change = found.change
    change = Change(change.new, change.changed, change.gone, (*missing, *change.failures), anew)
    found = Index(**{**vars(found), "change": change})
    if not len(found):
        reasons = [failure.reason for failure in change.failures[:5]]
        raise DataError("\n".join([*reasons, "no shape could be read; no index was written"]))
    if old is None or change.any:
        save_index(place, found)
    return found


def place_of(words: Sequence[str | Path]) -> Path:
    """Where the index of a folder is by itself.

    Raises:
        DataError: it is not one folder.
    """
    if len(words) == 1 and Path(words[0]).is_dir():
        return Path(words[0]) / NAME
    raise DataError("only the index of one folder has a place of its own: say --out INDEX.npz")


def _anew(old: Index | None, model: Model, up: Axis) -> str:
    if old is None:
        return ""
    if old.digest != model.digest:
        return "it was made by another encoder"
    return "" if old.up == up else f"it was made with {old.up} up"


def _updated(
    before: Sequence[Path],
    old: Index | None,
    files: Sequence[Path],
    model: Model,
    up: Axis,
    watch: Callable[[Sequence[Path]], Iterable[Path]],
) -> Index:
    """An index of ``files``, with the rows of ``old`` where those still hold."""
    rows = {} if old is None else {path: row for row, path in enumerate(old.paths)}
    stamps = {absolute(file): stamp_of(file) for file in files}
    same = [
        path
        for path, stamp in stamps.items()
        if old is not None and path in rows and tuple(old.stamps[rows[path]].tolist()) == stamp
    ]
    to_read = [file for file in files if absolute(file) not in set(same)]
    features, points, read, failures = _read(to_read, model, up, watch)
    if old is not None and same:
        chosen = [rows[path] for path in same]
        kept_rows = (old.features[chosen], old.points[chosen])
        features = np.concatenate([kept_rows[0], features]) if read else kept_rows[0]
        points = np.concatenate([kept_rows[1], points]) if read else kept_rows[1]
    paths = [*same, *read]
    place = {path: at for at, path in enumerate(paths)}
    order = [place[path] for path in stamps if path in place]  # that of the files
    known = set(before)
    return Index(
        tuple(paths[at] for at in order),
        np.array([stamps[paths[at]] for at in order], dtype=np.int64).reshape(-1, 2),
        features[order],
        points[order],
        model.name,
        model.digest,
        up,
        Change(
            new=sum(path not in known for path in read),
            changed=sum(path in known for path in read),
            gone=len(known - set(paths)),
            failures=failures,
        ),
    )


def _read(
    files: Sequence[Path],
    model: Model,
    up: Axis,
    watch: Callable[[Sequence[Path]], Iterable[Path]],
) -> tuple[Floats, NDArray[np.int16], list[Path], tuple[Failure, ...]]:
    """Features and points of files, absolute paths of those that could be read, and the others."""
    if not files:
        return np.zeros((0, 0), np.float32), np.zeros((0, 0, 3), np.int16), [], ()
    batches: list[NDArray[np.int16]] = []
    found = model.encoder.embed_all(
        watch(files), up=up, seen=lambda points: batches.append(kept(points))
    )
    paths = {id_of(file): absolute(file) for file in files}
    points = np.concatenate(batches) if batches else np.zeros((0, 0, 3), np.int16)
    return found.features, points, [paths[name] for name in found.ids], found.failures


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
    }
    buffer = io.BytesIO()
    np.savez(
        buffer,
        sa3d_index=np.array(json.dumps(about)),
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
        with np.load(file, allow_pickle=False) as stored:
            about = json.loads(str(stored["sa3d_index"]))
            if about["version"] != _VERSION:
                raise ValueError(f"it has version {about['version']}, this program {_VERSION}")
            folder = absolute(file).parent
            found = Index(
                tuple(absolute(folder / path) for path in about["paths"]),
                np.asarray(stored["stamps"], dtype=np.int64),
                np.asarray(stored["features"], dtype=np.float32),
                np.asarray(stored["points"], dtype=np.int16),
                None if about["model"] is None else str(about["model"]),
                str(about["digest"]),
                cast("Axis", {"x": "x", "y": "y", "z": "z"}[about["up"]]),
            )
    except Exception as error:
        if isinstance(error, FileNotFoundError):
            raise DataError(f"no index {file}; make it with `sa3d index FOLDER`") from None
        if (why := unread(error)) is not None:
            raise UnreadDataError(f"{file} {why}") from error
        if not isinstance(error, _DAMAGED):
            raise
        raise DataError(_damaged(file, error)) from None
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
        raise DataError(_damaged(file, "its arrays do not fit together"))
    return found


_DAMAGED: Final = (
    OSError, EOFError, KeyError, ValueError, TypeError, AttributeError, zipfile.BadZipFile,
)  # fmt: skip


def _damaged(file: Path, why: Any) -> str:
    return (
        f"{file} is no index of shapes, or a damaged one ({why}); delete it and run `sa3d index` "
        "again"
    )


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
