"""A part segmentation model, loaded: clouds, meshes and files in, the part of every point out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from sa3d.data.preprocessing import Axis
from sa3d.data.store import Ints
from sa3d.errors import UserError
from sa3d.inference.clouds import Cloudlike, Failure, Reading, listed
from sa3d.inference.predictor import Found, Predictor, all_read
from sa3d.registry import nearest


class Parts(NamedTuple):
    """The parts of one cloud.

    Attributes:
        id: the path of a file, the place of an array among what was given.
        points: (n, 3) in the coordinates of the file or array, however many there are; of a mesh,
            points of its surface.
        labels: (n,) part of each point, an index into the model's part names.
    """

    id: str
    points: NDArray[Any]
    labels: Ints


@dataclass(frozen=True)
class Segmented(Found):
    """Parts of the clouds that could be read.

    Attributes:
        part_names: of the labels.
        category: what all clouds were taken for.
        clouds: in the order of ``ids``.
    """

    part_names: tuple[str, ...]
    category: str
    clouds: tuple[Parts, ...]


class PartPredictor(Predictor[Segmented]):
    """The part segmentation model of an exported model.

    It must be told the category of the clouds, as in training and evaluation: a point gets one of
    the parts that this category may have. Only a model of a single category knows it by itself.

    The model sees as many points of a cloud as it was trained on. Every other point takes the
    part of the nearest one that was seen.

    Args:
        folder: with ``model.safetensors`` and ``model.json``, or a run folder that has it.

    Raises:
        CheckpointError: no such model, a damaged one, of another task, or one that does not say
            how its clouds are prepared.
    """

    kinds = ("segmenter",)

    def __init__(self, folder: Path) -> None:
        from sa3d.checkpoints.load import load_segmenter

        self._segmenter, card = load_segmenter(folder)
        super().__init__(card)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The categories that the model knows."""
        return tuple(self.card["class_names"])

    @property
    def part_names(self) -> tuple[str, ...]:
        """The parts of all categories."""
        return tuple(self.card["part_names"])

    def predict(
        self,
        clouds: Cloudlike | Sequence[Cloudlike],
        *,
        up: Axis | None = None,
        category: str | None = None,
    ) -> Segmented:
        """The parts of clouds, in their order.

        Args:
            clouds: as in the base class.
            up: the axis of them that points up.
            category: of all of them; may be left out for a model that knows one alone.

        Raises:
            DataError: a file that cannot be read, no usable cloud, or none at all.
            UserError: no category, or one that the model does not know.
        """
        return all_read(self.predict_all(listed(clouds), up=up, category=category))

    def predict_all(
        self, clouds: Iterable[Cloudlike], *, up: Axis | None = None, category: str | None = None
    ) -> Segmented:
        """See the base class; ``category`` as in :meth:`predict`."""
        name, failures = self.known(category), list[Failure]()
        found = tuple(self.each(clouds, failures, up=up, category=name))
        ids = tuple(cloud.id for cloud in found)
        return Segmented(ids, tuple(failures), self.part_names, name, found)

    def each(
        self,
        clouds: Iterable[Cloudlike],
        failures: list[Failure],
        *,
        up: Axis | None = None,
        category: str | None = None,
    ) -> Iterator[Parts]:
        """As :meth:`predict_all`, cloud by cloud, so that not all of them are held in memory.

        Args:
            clouds: as in the base class.
            failures: what cannot be read is added here.
            up: the axis of them that points up.
            category: of all of them.
        """
        import torch

        from sa3d.metrics.segmentation import allowed_parts, restricted_argmax

        label = self.class_names.index(self.known(category))
        allowed = torch.from_numpy(allowed_parts(self.card["class_parts"], len(self.part_names)))
        reading = Reading(self.preprocessing, self.axis(up))
        for batch in reading.batches(clouds):
            with torch.inference_mode():
                ready, seen = self.preprocessing.seen([each.cloud for each in batch])
                told = torch.full((len(batch),), label)
                parts = restricted_argmax(self._segmenter(ready, told), told, allowed).numpy()
            for read, rows, own in zip(batch, seen, parts, strict=True):
                yield Parts(read.id, read.given, _carried(read.cloud, rows, own))
            failures += reading.failures
            reading.failures.clear()
        failures += reading.failures

    def known(self, category: str | None) -> str:
        """The category that is meant.

        Raises:
            UserError: none where there are several, or one that the model does not know.
        """
        names = self.class_names
        if category is None:
            if len(names) == 1:
                return names[0]
            raise UserError(
                f"the model knows {len(names)} categories and must be told which one the clouds "
                f"are of (category=..., --category): {', '.join(names)}"
            )
        if category not in names:
            raise UserError(
                f"the model does not know the category '{category}'{nearest(category, names)}; "
                f"it knows {', '.join(names)}"
            )
        return category


def _carried(cloud: NDArray[Any], seen: Ints, parts: Ints) -> Ints:
    """Parts of the seen points (N,) -> of all points (n,): that of the nearest seen one."""
    from scipy.spatial import cKDTree

    _, nearest_seen = cKDTree(cloud[seen]).query(cloud)
    found: Ints = parts[nearest_seen]
    return found
