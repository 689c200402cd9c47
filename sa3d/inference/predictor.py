"""What all models in use have in common: clouds in, what the model says of them out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from sa3d.data.preprocessing import Axis, Preprocessing
from sa3d.errors import DataError
from sa3d.inference.clouds import Cloudlike, Failure, listed


@dataclass(frozen=True)
class Found:
    """What a model says of the clouds that could be read.

    Attributes:
        ids: of these clouds: the path of a file, the place of an array among what was given.
        failures: what could not be read.
    """

    ids: tuple[str, ...]
    failures: tuple[Failure, ...]


Says = TypeVar("Says", bound=Found)


class Predictor(ABC, Generic[Says]):
    """An exported model, on the CPU.

    Attributes:
        kinds: what a model's card calls models of this class.
        card: what the model says of itself.
        preprocessing: how a cloud becomes what the model sees.
    """

    kinds: ClassVar[tuple[str, ...]]
    card: dict[str, Any]

    def __init__(self, card: dict[str, Any]) -> None:
        self.card = card
        self.preprocessing = Preprocessing.from_json(card.get("preprocessing"))

    def predict(self, clouds: Cloudlike | Sequence[Cloudlike], *, up: Axis | None = None) -> Says:
        """What the model says of clouds, in their order.

        Args:
            clouds: paths of files and arrays (n, 3), as many as you like and of any sizes; one of
                them alone; or an array (B, n, 3). Of a mesh, points of its surface are taken.
            up: the axis of them that points up; None: that of the clouds that the model was taught
                with, y for every other model.

        Raises:
            DataError: a file that cannot be read, no usable cloud, or none at all.
        """
        return all_read(self.predict_all(listed(clouds), up=up))

    def axis(self, up: Axis | None) -> Axis:
        """The axis that points up in clouds of which ``up`` was said."""
        found: Axis = up or self.card.get("up", "y")
        return found

    @abstractmethod
    def predict_all(self, clouds: Iterable[Cloudlike], *, up: Axis | None = None) -> Says:
        """What the model says of all clouds that can be read; the others are named.

        Clouds of an unusual density are warned of, in one line.

        Args:
            clouds: paths of files, and arrays (n, 3); the next one is asked for when one is read.
            up: the axis of them that points up.
        """


def all_read(found: Says) -> Says:
    """``found``, if it is of all clouds that were given, and of one at least.

    Raises:
        DataError: it is not.
    """
    if found.failures:
        raise DataError(found.failures[0].reason)
    if not found.ids:
        raise DataError("expected one cloud or more, got none")
    return found
