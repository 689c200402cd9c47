"""How an index of shapes comes to be, and how it is brought up to date."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sa3d.data.preprocessing import Axis
from sa3d.errors import DataError
from sa3d.inference.clouds import Failure
from sa3d.inference.index import (
    NAME,
    NAMELESS,
    Change,
    Floats,
    Index,
    Model,
    Unread,
    absolute,
    id_of,
    kept,
    open_index,
    save_index,
    stamp_of,
)  # fmt: skip
from sa3d.inference.inputs import expand


def build_index(
    words: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    *,
    model: str | Path | None = None,
    up: Axis | None = None,
    watch: Callable[[Sequence[Path]], Iterable[Path]] | None = None,
) -> Index:
    """The index of all shapes in files and folders, made or brought up to date; written whole.

    Files that are as they were are not read again, nor are those that could not be read; files that
    are no longer there are dropped.

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
        first, *others = (failure.reason for failure in change.failures)
        more = f" (and {len(others)} more could not be read)" * bool(others)
        raise DataError(f"{first}{more}; no index was written")
    if old is None or change.any or found.unread != old.unread:
        save_index(place, found)
    return found


def place_of(words: Sequence[str | Path]) -> Path:
    """Where the index of a folder is by itself.

    Raises:
        DataError: it is not one folder.
    """
    if len(words) == 1 and Path(words[0]).is_dir():
        return Path(words[0]) / NAME
    if len(words) == 1 and not Path(words[0]).exists():
        raise DataError(f"no folder {words[0]}; give one with shapes in it")
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
    """An index of ``files``, with what ``old`` says of those that are as they were."""
    rows = {} if old is None else {path: row for row, path in enumerate(old.paths)}
    stamps = {absolute(file): stamp_of(file) for file in files}
    same = [
        path
        for path, stamp in stamps.items()
        if old is not None and path in rows and tuple(old.stamps[rows[path]].tolist()) == stamp
    ]
    told = {each.path: each for each in (() if old is None else old.unread)}
    told = {path: each for path, each in told.items() if stamps.get(path) == each.stamp}
    done = {*same, *told}
    to_read = [file for file in files if absolute(file) not in done]
    features, points, read, failed = _read(to_read, model, up, watch)
    named = {id_of(file): absolute(file) for file in to_read}
    told |= {
        named[each.id]: Unread(
            named[each.id], stamps[named[each.id]], each.reason.replace(each.id, NAMELESS)
        )
        for each in failed
    }
    failures = tuple(
        Failure(id_of(file), told[absolute(file)].reason.replace(NAMELESS, id_of(file)))
        for file in files
        if absolute(file) in told
    )
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
        tuple(each for path, each in told.items() if _opens(path)),
        Change(
            new=sum(path not in known for path in read),
            changed=sum(path in known for path in read),
            gone=len(known - set(paths)),
            failures=failures,
        ),
    )


def _opens(path: Path) -> bool:
    """Whether a file can be opened, so that what was wrong with it is its content."""
    try:
        path.open("rb").close()
    except OSError:
        return False
    return True


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
