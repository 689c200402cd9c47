"""``explain.npz``: a few test clouds, how hard the model finds each patch, what it masked and
what was rebuilt. The names of its arrays are defined here, for its writer and its readers.

E clouds, N points, G patches, K points a patch, M masked patches, Kr rebuilt points a patch.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sa3d.errors import DataError
from sa3d.utils.files import write_whole

FILE: Final = "explain.npz"

POINTS: Final = "points"  # (E, N, 3) float32, y up
CENTERS: Final = "centers"  # (E, G, 3) float32
PATCH_INDEX: Final = "patch_index"  # (E, G, K) integer, into the N points
GC: Final = "gc"  # (E, G) float32: EMA teacher's scores, the whole cloud visible; large = hard;
# absent or all zero where the method predicts none (a plain masked autoencoder)
MASK: Final = "mask"  # (E, G) bool, True = masked
HARD: Final = "hard"  # (E, G) bool, masked because hard; a subset of `mask`
# (E, M, Kr, 3) float32, absolute; masked patches by ascending index; NaN: fewer than Kr points
REBUILT: Final = "rebuilt"
LABELS: Final = "labels"  # (E,) integer
CLASS_NAMES: Final = "class_names"  # 0-d string: JSON list
PART_LABELS: Final = "part_labels"  # (E, N) integer; may be absent


@dataclass(frozen=True)
class Explained:
    """The arrays of ``explain.npz``; see the constants above for shapes."""

    points: NDArray[np.float32]
    centers: NDArray[np.float32]
    patch_index: NDArray[np.int64]
    gc: NDArray[np.float32] | None
    mask: NDArray[np.bool_]
    hard: NDArray[np.bool_]
    rebuilt: NDArray[np.float32]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    part_labels: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.points)

    def name(self, cloud: int) -> str:
        """Class name of a cloud."""
        label = int(self.labels[cloud])
        known = 0 <= label < len(self.class_names)
        return self.class_names[label] if known else f"class {label}"


def save_explain(path: Path, data: Explained) -> None:
    """Write ``data``.

    Raises:
        WriteError: full disk, no permission.
    """
    arrays: dict[str, Any] = {
        POINTS: data.points.astype(np.float32),
        CENTERS: data.centers.astype(np.float32),
        PATCH_INDEX: data.patch_index.astype(np.int32),
        MASK: data.mask.astype(np.bool_),
        HARD: data.hard.astype(np.bool_),
        REBUILT: data.rebuilt.astype(np.float32),
        LABELS: data.labels.astype(np.int64),
        CLASS_NAMES: np.array(json.dumps(list(data.class_names))),
    }
    if data.gc is not None:
        arrays[GC] = data.gc.astype(np.float32)
    if data.part_labels is not None:
        arrays[PART_LABELS] = data.part_labels.astype(np.int32)
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    write_whole(path, packed.getbuffer())


def load_explain(path: Path) -> Explained:
    """The arrays of ``explain.npz``, checked against each other.

    Raises:
        DataError: the file is missing, unreadable, or its arrays do not fit together.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            data = Explained(
                points=np.asarray(stored[POINTS], dtype=np.float32),
                centers=np.asarray(stored[CENTERS], dtype=np.float32),
                patch_index=np.asarray(stored[PATCH_INDEX], dtype=np.int64),
                gc=_scores(stored),
                mask=np.asarray(stored[MASK], dtype=np.bool_),
                hard=np.asarray(stored[HARD], dtype=np.bool_),
                rebuilt=np.asarray(stored[REBUILT], dtype=np.float32),
                labels=np.asarray(stored[LABELS], dtype=np.int64),
                class_names=tuple(str(name) for name in json.loads(str(stored[CLASS_NAMES]))),
                part_labels=np.asarray(stored[PART_LABELS], dtype=np.int64)
                if PART_LABELS in stored
                else None,
            )
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot read {path}: {error}") from None
    _check(data, path)
    return data


def _scores(stored: Any) -> NDArray[np.float32] | None:
    scores = np.asarray(stored[GC], dtype=np.float32) if GC in stored else np.zeros(0)
    return scores.astype(np.float32) if scores.any() else None


def _check(data: Explained, path: Path) -> None:
    clouds, points = data.points.shape[:2]
    patches = data.centers.shape[1]
    masked = data.mask.sum(axis=1)
    fits = (
        data.points.shape == (clouds, points, 3)
        and data.centers.shape == (clouds, patches, 3)
        and data.patch_index.ndim == 3
        and data.patch_index.shape[:2] == (clouds, patches)
        and data.mask.shape == data.hard.shape == (clouds, patches)
        and (data.gc is None or data.gc.shape == (clouds, patches))
        and data.rebuilt.ndim == 4
        and data.rebuilt.shape[0] == clouds
        and data.rebuilt.shape[3] == 3
        and bool((masked == data.rebuilt.shape[1]).all())
        and data.labels.shape == (clouds,)
        and int(data.patch_index.min(initial=0)) >= 0
        and int(data.patch_index.max(initial=0)) < points
    )
    if not fits:
        shapes = ", ".join(
            f"{name} {np.shape(getattr(data, name))}"
            for name in (POINTS, CENTERS, PATCH_INDEX, GC, MASK, HARD, REBUILT, LABELS)
        )
        raise DataError(f"arrays of {path} do not fit together: {shapes}")
    scores = np.zeros(0) if data.gc is None else data.gc
    rebuilt = data.rebuilt[~np.isnan(data.rebuilt)]
    if not all(np.isfinite(values).all() for values in (data.points, scores, rebuilt)):
        raise DataError(f"{path} holds values that are not finite")


def point_complexity(data: Explained, cloud: int) -> NDArray[np.float64]:
    """Predicted complexity of every point (N,), as rank in [0, 1] within its cloud.

    The scores are trained by ranking, so that only their order inside a cloud has a meaning.
    A point takes the mean rank of the patches that hold it; one in no patch, the rank of
    the nearest centre.
    """
    if data.gc is None:
        raise ValueError("the method predicts no complexity")
    scores = data.gc[cloud]
    rank = np.argsort(np.argsort(scores, kind="stable")) / max(1, len(scores) - 1)
    index = data.patch_index[cloud]
    total = np.bincount(index.ravel(), np.repeat(rank, index.shape[1]), len(data.points[cloud]))
    held = np.bincount(index.ravel(), minlength=len(data.points[cloud]))
    mean: NDArray[np.float64] = total / np.maximum(held, 1)
    return np.where(held > 0, mean, rank[_nearest(data, cloud)])


VISIBLE: Final = 0
MASKED_RANDOM: Final = 1
MASKED_HARD: Final = 2


def point_state(data: Explained, cloud: int) -> NDArray[np.uint8]:
    """What the encoder got of every point (N,): visible, masked at random, masked as hard.

    Patches overlap. A point of any visible patch was seen; of the rest, a point of any
    hard patch counts as masked for being hard.
    """
    index, mask, hard = data.patch_index[cloud], data.mask[cloud], data.hard[cloud]
    state = patch_state(data, cloud)[_nearest(data, cloud)]
    state[index[mask & ~hard].ravel()] = MASKED_RANDOM
    state[index[mask & hard].ravel()] = MASKED_HARD
    state[index[~mask].ravel()] = VISIBLE
    return state


def patch_state(data: Explained, cloud: int) -> NDArray[np.uint8]:
    """The same for every patch (G,)."""
    mask, hard = data.mask[cloud], data.hard[cloud]
    return np.where(mask, np.where(hard, MASKED_HARD, MASKED_RANDOM), VISIBLE).astype(np.uint8)


def rebuilt_points(data: Explained, cloud: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The R rebuilt points (R, 3) and the state of the patch each belongs to (R,).

    A point that two patches rebuild together comes once, as hard if one of them is.
    """
    patches = data.rebuilt[cloud]
    states = np.repeat(patch_state(data, cloud)[data.mask[cloud]], patches.shape[1])
    points = patches.reshape(-1, 3)
    there = ~np.isnan(points).any(axis=1)
    order = np.argsort(states[there], kind="stable")[::-1]  # hard ones first: the first is kept
    _, first = np.unique(points[there][order], axis=0, return_index=True)
    chosen = np.sort(order[first])
    return points[there][chosen], states[there][chosen]


def _nearest(data: Explained, cloud: int) -> NDArray[np.int64]:
    gap = data.points[cloud][:, None, :] - data.centers[cloud][None, :, :]
    nearest: NDArray[np.int64] = np.argmin((gap**2).sum(-1), axis=1)
    return nearest
