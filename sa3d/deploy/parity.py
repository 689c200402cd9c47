"""Whether an exported file answers what the model answers, on clouds made for asking.

Which points are farthest or nearest is a decision, and where two points compete closely the rounding of
a sum can turn it: then patches, and features, differ visibly though nothing is wrong. The clouds are
therefore such that every sum and difference before the network is exact in float32: coordinates are
multiples of a power of two, each point stands beside its mirror image, and the largest radius is a power
of two. Many distances are equal on such a grid, so that the rule for equal ones is asked too. What
remains is the rounding of the network, far below :data:`TOLERANCE`; a larger difference is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from sa3d.data.store import Points
from sa3d.deploy.deployable import Deployable
from sa3d.errors import CheckpointError

TOLERANCE: Final = 1e-4
"""Largest difference of any number in an answer."""
BATCHES: Final = (1, 3)

Feeds = Mapping[str, NDArray[Any]]
Run = Callable[[Feeds], list[NDArray[Any]]]

_RADIUS: Final = 1024  # of the clouds, in steps of their grid
_INNER: Final = 580  # coordinates up to here have a radius below that, on all three axes
_STEP: Final = 1 / 256
_PLACE: Final = (2.0, -1.0, 0.5)


def largest_difference(model: Deployable, run: Run) -> float:
    """The largest difference between a file's answers and the model's, over clouds of fewer points
    than the model sees, of as many and of more, alone and in batches.

    Args:
        model: what was exported.
        run: the file: inputs by name to outputs in order.
    """
    worst = 0.0
    rng = np.random.default_rng(0)
    for clouds in _questions(model.preprocessing.points, rng):
        categories = rng.integers(0, model.categories or 1, len(clouds))
        feeds = {"points": clouds, "category": categories}
        found = run({name: feeds[name] for name in model.inputs})
        with torch.inference_mode():
            wanted = [each.numpy() for each in model.answer(list(clouds), categories)]
        for ours, theirs in zip(wanted, found, strict=True):
            if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
                return float("inf")
            difference = np.abs(ours.astype(np.float64) - theirs).max()
            worst = max(worst, float(np.nan_to_num(difference, nan=np.inf)))
    return worst


def check_parity(model: Deployable, run: Run) -> float:
    """:func:`largest_difference`, if it is none to speak of.

    Raises:
        CheckpointError: it is more than :data:`TOLERANCE`.
    """
    found = largest_difference(model, run)
    if not found <= TOLERANCE:
        raise CheckpointError(
            f"the exported form differs from the model by {found:.2g}, more than {TOLERANCE:g}, so "
            "nothing was written; other versions of torch or onnxruntime may translate it rightly"
        )
    return found


def _questions(count: int, rng: np.random.Generator) -> Iterator[NDArray[np.float32]]:
    """Batches (B, n, 3): fewer points than ``count``, as many, and more."""
    for batch in BATCHES:
        whole = np.stack([exact_cloud(count, rng) for _ in range(batch)])
        yield whole
        divisor = next((each for each in (2, 3, 5, 7) if count % each == 0), None)
        if divisor and count // divisor > 3:  # repeated wholly, so that the mean stays exact
            yield np.stack([exact_cloud(count // divisor, rng) for _ in range(batch)])
        yield np.stack([_with_doubles(cloud, rng) for cloud in whole])


def exact_cloud(count: int, rng: np.random.Generator) -> Points:
    """(count, 3) points and their mirror images through (2, -1, 0.5), the radius 4."""
    half = rng.integers(-_INNER, _INNER + 1, (max(count // 2, 1), 3))
    half[0] = (_RADIUS, 0, 0)
    rest = np.zeros((count % 2, 3), dtype=half.dtype)
    grid = rng.permutation(np.concatenate([half, -half, rest])[:count])
    cloud: Points = (grid * _STEP + np.array(_PLACE)).astype(np.float32)
    return cloud


def _with_doubles(cloud: Points, rng: np.random.Generator) -> Points:
    """Half as many points more, each at the place of another one, in mirrored pairs: the farthest
    are the distinct ones, and the mean is what it was."""
    middle = np.array(_PLACE, dtype=np.float32)
    some = cloud[rng.permutation(len(cloud))[: max(len(cloud) // 4, 1)]]
    return rng.permutation(np.concatenate([cloud, some, 2 * middle - some]))


