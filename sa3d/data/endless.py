"""Data sets without a file and without an end: clouds are made while a model is trained on them.

The settings class of such a source is an :class:`EndlessSource`, and its module has beside
``prepare`` a function ``generate(source, stream, numbers)`` that returns :class:`Made`: clouds
``numbers`` of a stream. A cloud depends on the settings, the stream and its number alone.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import Field

from sa3d import registry
from sa3d.config.base import Frozen, Positive, Seed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HELD_OUT: Final = 0
"""The stream of the clouds that no training draws."""


def training_stream(seed: int) -> int:
    """The stream that a run of this seed is trained on."""
    return 1 + seed


class EndlessSource(Frozen):
    """What the settings of every endless data set have."""

    source: str = Field(description="kind of source")
    seed: Seed = Field(0, description="seed of every cloud")
    clouds_per_epoch: Positive = Field(
        51_200, description="clouds that count as one epoch; no two epochs have one in common"
    )
    held_out: int = Field(
        256, ge=8, le=100_000, description="clouds of a stream of their own, which no run draws"
    )
    points: int = Field(1024, ge=64, le=65_536, description="points a cloud is made with")


class Made(NamedTuple):
    """Some clouds.

    Attributes:
        points: (B, source.points, 3) float32 in random order, not yet normalised.
        labels: (B,) class of each.
    """

    points: NDArray[np.float32]
    labels: NDArray[np.int64]


def generator_of(source: EndlessSource) -> Callable[[EndlessSource, int, Sequence[int]], Made]:
    """The function ``generate`` of the source's module."""
    found: Callable[[EndlessSource, int, Sequence[int]], Made] = _module(source).generate
    return found


def class_names_of(source: EndlessSource) -> tuple[str, ...]:
    """What the labels of its clouds mean."""
    names: tuple[str, ...] = _module(source).CLASS_NAMES
    return names


def digest_of(source: EndlessSource) -> str:
    """64 hex digits that are the same only for the same clouds: of the settings and the version
    of the generator. Which of the endless clouds a run draws is the run's to say."""
    text = f"endless {_module(source).GENERATOR_VERSION} {source.model_dump_json()}"
    return hashlib.sha256(text.encode()).hexdigest()


def _module(source: EndlessSource) -> Any:
    where = registry.SOURCES[registry.require(registry.SOURCES, "data source", source.source)].where
    return importlib.import_module(where.partition(":")[0])
