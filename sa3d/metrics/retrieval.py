"""How well clouds that belong together are near each other: average precision of a ranking."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def average_precision(
    features: NDArray[np.floating],
    groups: NDArray[np.integer],
    apart: NDArray[np.integer] | None = None,
) -> Floats:
    """Average precision of every cloud as a query, all others ranked by cosine similarity.

    Relevant are the clouds of the query's group. The average precision is the mean, over the
    relevant clouds, of the share of relevant ones among those ranked no lower.

    Args:
        features: (S, D).
        groups: (S,) group of each cloud.
        apart: (S,) of each cloud; a query's ranking leaves out those of the same one, such as
            near-duplicates. None: only the query itself is left out.

    Returns:
        (S,); NaN for a query without a relevant cloud.
    """
    rows = np.asarray(features, dtype=np.float64)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    apart = np.arange(len(rows)) if apart is None else apart
    found = np.full(len(rows), np.nan)
    for query, row in enumerate(rows):
        others = np.flatnonzero(apart != apart[query])
        order = others[np.argsort(-(rows[others] @ row), kind="stable")]
        relevant = groups[order] == groups[query]
        if relevant.any():
            ranks = np.flatnonzero(relevant) + 1
            found[query] = float((np.arange(1, len(ranks) + 1) / ranks).mean())
    return found
