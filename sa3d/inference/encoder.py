"""An encoder, loaded: clouds, meshes and files in, frozen features out.

    encoder = sa3d.load_encoder()
    features = encoder.embed(["a.ply", "b.stl", points])  # (3, D)

What the model sees of a cloud is made by :mod:`sa3d.data.preprocessing`, as in training.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sa3d.checkpoints.card import find_model
from sa3d.data.mesh import Mesh, sample_surface
from sa3d.data.preprocessing import Axis, Preprocessing, unit_sphere_float64, upright
from sa3d.data.readers import read_cloud_or_mesh
from sa3d.data.store import Points, check_cloud
from sa3d.errors import CheckpointError, DataError

BOXED: Final = Path(__file__).with_name("boxed")
"""The encoder that comes with this package; docs/encoder.md is about it."""
REGISTERED: Final = "models:/"
DENSITY: Final = 4.0
"""Clouds with more than this many times the points of the training clouds, or fewer by this
factor, are warned of: farthest points of a denser or sparser surface lie differently."""

_BATCH: Final = 64  # clouds a forward pass
_BATCH_POINTS: Final = 1 << 22  # most points of a batch before they are reduced, padding included
_FOREIGN: Final = (".pth", ".pt", ".ckpt", ".pkl", ".bin", ".safetensors", ".onnx")

_log = logging.getLogger(__name__)

Cloudlike = str | Path | NDArray[Any]


class Failure(NamedTuple):
    """A cloud that could not be read, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class Embedded:
    """Features of the clouds that could be read.

    Attributes:
        ids: of the rows: the path of a file, the place of an array among what was given.
        features: (B, D).
        failures: what could not be read.
    """

    ids: tuple[str, ...]
    features: NDArray[np.float32]
    failures: tuple[Failure, ...]


class Encoder:
    """The encoder of an exported model, on the CPU.

    Attributes:
        card: what the model says of itself.
        preprocessing: how a cloud becomes what the model sees.

    Args:
        folder: with ``model.safetensors`` and ``model.json``, or a run folder that has it.

    Raises:
        CheckpointError: no such model, a damaged one, of another task, or one that does not say
            how its clouds are prepared.
    """

    def __init__(self, folder: Path) -> None:
        from sa3d.checkpoints.load import load_encoder

        self._backbone, self.card = load_encoder(folder)
        self.preprocessing = Preprocessing.from_json(self.card.get("preprocessing"))

    def embed(
        self, clouds: Cloudlike | Sequence[Cloudlike], *, up: Axis = "y"
    ) -> NDArray[np.float32]:
        """Features of clouds, in their order.

        Args:
            clouds: paths of files and arrays (n, 3), as many as you like and of any sizes; one of
                them alone; or an array (B, n, 3). Of a mesh, points of its surface are taken.
            up: the axis of them that points up.

        Returns:
            (B, D); B = 1 for a single cloud.

        Raises:
            DataError: a file that cannot be read, no usable cloud, or none at all.
        """
        found = self.embed_all(_listed(clouds), up=up)
        if found.failures:
            raise DataError(found.failures[0].reason)
        if not found.ids:
            raise DataError("expected one cloud or more, got none")
        return found.features

    def embed_all(
        self,
        clouds: Iterable[Cloudlike],
        *,
        up: Axis = "y",
        seen: Callable[[NDArray[np.float32]], None] | None = None,
    ) -> Embedded:
        """Features of all clouds that can be read; the others are named.

        Clouds of an unusual density are warned of, in one line.

        Args:
            clouds: paths of files, and arrays (n, 3); the next one is asked for when one is read.
            up: the axis of them that points up.
            seen: gets, batch by batch, the points (B, N, 3) that the model saw of them, y up.
        """
        import torch

        ids: list[str] = []
        failures: list[Failure] = []
        unusual: list[str] = []
        parts = [np.zeros((0, self._backbone.dim), dtype=np.float32)]
        with torch.inference_mode():
            for batch in _batches(self._read(clouds, up, failures, unusual)):
                ready = self.preprocessing.batch([cloud for _, cloud in batch])
                features = self._backbone.features(ready).numpy()
                if seen is not None:
                    seen(ready.numpy())
                parts = [features] if not ids else [*parts, features]
                ids += [name for name, _ in batch]
        if unusual:
            _log.warning(
                "%d of %d clouds have a density far from that of training (clouds of %d points), "
                "such as %s: their features may be of less use",
                len(unusual),
                len(ids),
                self.preprocessing.usual_points,
                unusual[0],
            )
        return Embedded(tuple(ids), np.concatenate(parts), tuple(failures))

    def _read(
        self, clouds: Iterable[Cloudlike], up: Axis, failures: list[Failure], unusual: list[str]
    ) -> Iterator[tuple[str, Points]]:
        """Usable clouds one by one, with their ids; what is to be told of them goes into lists."""
        usual = self.preprocessing.usual_points
        for place, given in enumerate(clouds):
            # a name that is no text can be no id
            text = str(given if isinstance(given, str | Path) else place)
            name = os.fsencode(text).decode("utf-8", "backslashreplace")
            try:
                cloud = check_cloud(self._scaled(self._points(given)), name)
            except DataError as error:
                failures.append(Failure(name, str(error)))
                continue
            if not usual / DENSITY <= len(cloud) <= usual * DENSITY:
                unusual.append(f"'{name}' with {len(cloud)}")
            yield name, upright(cloud, up)

    def _points(self, given: Cloudlike) -> NDArray[Any]:
        """The points of an array or of a file; of a mesh as many points of its surface as a
        training cloud has, the same every time.

        Raises:
            DataError: with the path.
        """
        if not isinstance(given, str | Path):
            return np.asarray(given)
        found = read_cloud_or_mesh(Path(given))
        if isinstance(found, Mesh):
            rng = np.random.default_rng(0)
            return sample_surface(found, self.preprocessing.usual_points, rng)[0]
        return found.points

    def _scaled(self, points: NDArray[Any]) -> NDArray[Any]:
        """Points in double precision that are far from the origin, as surveyed ones are, would lose
        their shape if they became float32 where they are; a model that has them scaled anyway gets
        them scaled before. What is no cloud stays as it is, to be refused."""
        cloud = points.ndim == 2 and points.shape[1] == 3 and len(points) > 0
        if self.preprocessing.normalisation == "none" or points.dtype == np.float32 or not cloud:
            return points
        return unit_sphere_float64(points) if np.isfinite(points).all() else points


def load_encoder(model: str | Path | None = None) -> Encoder:
    """An encoder, ready for :meth:`Encoder.embed`.

    Args:
        model: a run folder of a pre-training or its ``model`` folder; a registered model, as
            ``models:/NAME@ALIAS``; None: the one that comes with this package.

    Raises:
        CheckpointError: no such model, a damaged one, or of another task.
        UserError: the registry has none of that name, or does not answer.
    """
    if model is None:
        return Encoder(BOXED)
    if str(model).startswith(REGISTERED):
        return _registered(str(model))
    path = Path(model)
    if path.is_file():
        raise CheckpointError(
            f"{path} is a file; give the folder of an exported model. A published checkpoint is "
            "made into one by `sa3d convert`"
        )
    return Encoder(find_model(path))


def names_model(text: str) -> bool:
    """Whether a word of a command line means a model rather than a cloud or a folder of clouds."""
    path = Path(text)
    marks = ("model.json", "model/model.json", "journal.jsonl")
    return (
        text.startswith(REGISTERED)
        or path.suffix.lower() in _FOREIGN
        or any((path / mark).is_file() for mark in marks)
    )


def _registered(uri: str) -> Encoder:
    from sa3d.checkpoints.card import FOLDER
    from sa3d.tracking import keys
    from sa3d.tracking.versions import download, find, reference, store

    name, which = reference(uri, keys.CHAMPION)
    with store() as opened, tempfile.TemporaryDirectory() as scratch:
        version = find(opened, name, which)
        return Encoder(download(opened, version, f"data/{FOLDER}", scratch))


def _listed(clouds: Cloudlike | Sequence[Cloudlike]) -> list[Cloudlike]:
    if isinstance(clouds, str | Path):
        return [clouds]
    if not isinstance(clouds, np.ndarray):
        return list(clouds)
    if clouds.ndim not in (2, 3):
        raise DataError(f"expected clouds (B, n, 3) or (n, 3), got shape {clouds.shape}")
    return list(clouds) if clouds.ndim == 3 else [clouds]


def _batches(clouds: Iterable[tuple[str, Points]]) -> Iterator[list[tuple[str, Points]]]:
    """Batches of some clouds each, few enough that their points fit into memory side by side."""
    batch: list[tuple[str, Points]] = []
    largest = 0
    for each in clouds:
        size = max(largest, len(each[1]))
        if len(batch) == _BATCH or (batch and size * (len(batch) + 1) > _BATCH_POINTS):
            yield batch
            batch, size = [], len(each[1])
        batch.append(each)
        largest = size
    if batch:
        yield batch
