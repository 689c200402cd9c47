"""Which coordinates a point may have."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FARTHEST: Final = 1e18
"""Squares of larger coordinates leave single precision."""


def unusable_row(points: NDArray[Any]) -> int | None:
    """The first row with a coordinate that is not finite or beyond :data:`FARTHEST`; None where
    there is none."""
    usable = (np.abs(points) <= FARTHEST).all(axis=1)
    return None if usable.all() else int(np.flatnonzero(~usable)[0])
