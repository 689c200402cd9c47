"""Data sets without a file and without an end: clouds are made while a model is trained on them.

The settings class of such a source is an :class:`~sa3d.config.endless.EndlessSource`. Its module
has beside ``prepare``:

- ``generate(source, stream, numbers)``, which returns clouds ``numbers`` of a stream as
  :class:`Made`; a cloud depends on the settings, the stream and its number alone,
- ``CLASS_NAMES``, what their labels mean,
- ``GENERATOR_VERSION``, raised whenever the clouds change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from sa3d.config.endless import EndlessSource, module_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HELD_OUT: Final = 0
"""The stream of the clouds that no training draws."""


def training_stream(seed: int) -> int:
    """The stream that a run of this seed is trained on."""
    return 1 + seed


class Made(NamedTuple):
    """Some clouds.

    Attributes:
        points: (B, source.points, 3) float32 in random order.
        labels: (B,) class of each.
    """

    points: NDArray[np.float32]
    labels: NDArray[np.int64]


def generator_of(source: EndlessSource) -> Callable[[EndlessSource, int, Sequence[int]], Made]:
    """The function ``generate`` of the source's module."""
    found: Callable[[EndlessSource, int, Sequence[int]], Made] = module_of(source).generate
    return found


def class_names_of(source: EndlessSource) -> tuple[str, ...]:
    """What the labels of its clouds mean."""
    names: tuple[str, ...] = module_of(source).CLASS_NAMES
    return names
