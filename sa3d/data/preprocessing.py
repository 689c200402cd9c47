"""The one way from a cloud to what a model sees: fewer points, in the unit sphere.

Training, evaluation, pictures and serving all come through here, so that a model meets in use
what it met in training. Importing this costs no torch: sources run in processes of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from sa3d.data.store import NORMALISATIONS, TRAIN, CloudSet, Ints, Normalisation, Points
from sa3d.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

Axis = Literal["x", "y", "z"]

# columns of a cloud's axes, and their signs, that are x, y and z once the given one points up
_UPRIGHT: Final[Mapping[Axis, tuple[tuple[int, ...], tuple[float, ...]]]] = {
    "x": ((1, 0, 2), (-1.0, 1.0, 1.0)),
    "y": ((0, 1, 2), (1.0, 1.0, 1.0)),
    "z": ((0, 2, 1), (1.0, 1.0, -1.0)),
}


@dataclass(frozen=True)
class Preprocessing:
    """How a cloud of any size becomes the (N, 3) points that a model sees.

    Attributes:
        points: N.
        normalisation: ``subsample``: N points are chosen, then scaled to the unit sphere
            (ShapeNet55, and the generated and CAD sets here); ``cloud``: the whole cloud is
            scaled to the unit sphere, then N points are chosen (ModelNet40); ``none``:
            coordinates stay as they are (ScanObjectNN).
        stored_points: points of the clouds that the model was trained on before they were
            reduced to N, their median; None where that is not known.
    """

    points: int
    normalisation: Normalisation
    stored_points: int | None = None

    @classmethod
    def of(cls, clouds: CloudSet, points: int) -> Preprocessing:
        """That of a data set, for models of ``points`` points."""
        rows = clouds.indices(TRAIN)
        sizes = clouds.sizes[rows] if len(rows) else clouds.sizes
        return cls(points, clouds.normalisation, int(np.median(sizes)))

    @classmethod
    def from_json(cls, tree: Any) -> Preprocessing:
        """From a model's card; the inverse of :meth:`to_json`.

        Raises:
            CheckpointError: it is no such thing.
        """
        fine = (
            isinstance(tree, Mapping)
            and {"points", "normalisation"} <= set(tree)
            and set(tree) <= {"points", "normalisation", "stored_points"}
            and isinstance(tree["points"], int)
            and tree["points"] > 0
            and tree["normalisation"] in NORMALISATIONS
            and isinstance(tree.get("stored_points"), int | None)
        )
        if not fine:
            raise CheckpointError(
                f"the model's card has preprocessing {tree!r}, expected points and one of the "
                f"normalisations {', '.join(NORMALISATIONS)}; export the model again"
            )
        return cls(**tree)

    def to_json(self) -> dict[str, Any]:
        """For a model's card."""
        return asdict(self)

    @property
    def usual_points(self) -> int:
        """Points of a cloud as the model was trained on, before it was reduced to N; N where that
        is not known."""
        return self.stored_points or self.points

    def cloud(self, points: Points) -> Tensor:
        """(N, 3) float32 of one cloud (n, 3)."""
        return self.batch([points])[0]

    def batch(self, clouds: Sequence[Points]) -> Tensor:
        """(B, N, 3) float32 of clouds of any sizes: N farthest points from the first one on; of a
        cloud of fewer points all of them, and some again. A cloud comes out the same whatever is
        beside it."""
        return self.seen(clouds)[0]

    def seen(self, clouds: Sequence[Points]) -> tuple[Tensor, list[Ints]]:
        """:meth:`batch`, and of each cloud the N indices of the points that it has there."""
        import torch

        whole = [self.before(cloud) for cloud in clouds]
        index = [np.resize(rows, self.points) for rows in farthest(whole, self.points)]
        chosen = [cloud.take(i, axis=0) for cloud, i in zip(whole, index, strict=True)]
        return self.after(torch.from_numpy(np.stack(chosen))), index

    def before(self, cloud: Points) -> Points:
        """The cloud (n, 3) out of which points are chosen."""
        if self.normalisation != "cloud":
            return cloud
        import torch

        scaled: Points = unit_sphere(torch.tensor(cloud)).numpy()
        return scaled

    def after(self, chosen: Tensor) -> Tensor:
        """What the model sees of the chosen points (B, N, 3)."""
        return unit_sphere(chosen) if self.normalisation == "subsample" else chosen


def unit_sphere(points: Tensor) -> Tensor:
    """Subtract each cloud's centroid and divide by its largest radius (..., N, 3).

    A cloud of equal points becomes all zeros rather than NaN.
    """
    import torch

    centred = points - points.mean(dim=-2, keepdim=True)
    radius = centred.square().sum(dim=-1).amax(dim=-1).sqrt()
    return centred / radius.clamp_min(torch.finfo(points.dtype).tiny)[..., None, None]


def unit_sphere_float64(points: NDArray[Any]) -> Points:
    """:func:`unit_sphere` of one cloud (N, 3) in float64, rounded to float32 at the end.

    For sources, which write clouds once: their files must come out the same on every machine and
    without torch. What a model sees goes through :func:`unit_sphere` alone.
    """
    centred = points.astype(np.float64) - points.mean(axis=0, dtype=np.float64)
    radius = float(np.sqrt((centred**2).sum(axis=1).max()))
    scaled: Points = (centred / (radius or 1.0)).astype(np.float32)
    return scaled


def upright(points: NDArray[Any], up: Axis) -> NDArray[Any]:
    """Points (n, 3) turned so that their axis ``up`` becomes y."""
    columns, signs = _UPRIGHT[up]
    turned = points[:, columns] * np.asarray(signs, dtype=points.dtype)
    # rows in memory as they were: sums over them are rounded alike
    return np.ascontiguousarray(turned)


def farthest(
    clouds: Sequence[Points], count: int, starts: Sequence[int] | None = None
) -> list[Ints]:
    """Indices of ``count`` farthest points of each cloud, the first given ones where it has no
    more than that.

    Args:
        clouds: B arrays (n, 3), of any sizes.
        count: points to choose.
        starts: the first point chosen of each cloud; else its first one.

    Returns:
        B arrays of ``min(count, n)`` indices. Each depends on its own cloud alone.
    """
    import torch
    from point_ops import farthest_point_sample

    larger = [at for at, cloud in enumerate(clouds) if len(cloud) > count]
    found = [np.arange(min(count, len(cloud))) for cloud in clouds]
    if not larger:
        return found
    sizes = [len(clouds[at]) for at in larger]
    padded = np.empty((len(larger), max(sizes), 3), dtype=np.float32)
    for slot, at in enumerate(larger):
        padded[slot, : sizes[slot]] = clouds[at]
        padded[slot, sizes[slot] :] = 0.0
    slots = np.arange(len(larger))
    first = np.array([0 if starts is None else starts[at] for at in larger])
    # the sampler begins at index 0: the start changes places with it
    padded[slots, 0], padded[slots, first] = padded[slots, first], padded[slots, 0]
    lengths = None if min(sizes) == max(sizes) else torch.tensor(sizes)
    index = farthest_point_sample(torch.from_numpy(padded), count, lengths=lengths).numpy()
    column = first[:, None]
    index = np.where(index == 0, column, np.where(index == column, 0, index))  # and back again
    for slot, at in enumerate(larger):
        found[at] = index[slot]
    return found
