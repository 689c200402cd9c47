"""Averages in which near-duplicates do not count more than once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def family_mean(values: NDArray[Any], family: NDArray[np.int64]) -> float:
    """Mean over families of the mean within each; without families the plain mean.

    Shapes of one family are right or wrong together. Where a family is large, a plain mean tells
    mostly how that one fared: of the 669 validation clouds of ``kicad``, in 88 families, two
    families hold 368, and the mean varies as that of six independent clouds would.

    Args:
        values: (S,) of each cloud.
        family: (S,) its family.
    """
    _, own = np.unique(family, return_inverse=True)
    sums = np.bincount(own, np.asarray(values, dtype=np.float64))
    return float((sums / np.bincount(own)).mean())
