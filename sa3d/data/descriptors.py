"""A floor for data sets of classes: 5 nearest neighbours on simple shape descriptors.

If a nearest-neighbour rule on distance histograms already solves a data set, a trained network
proves nothing on it; the accuracy stands in the data set's summary so that reports can show it
beside learned features.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PAIRS = 4096
_D2_BINS = 32
_HEIGHT_BINS = 16
_SUBSET = 1024


def descriptors(points: NDArray[Any], seed: int = 0) -> NDArray[np.float32]:
    """Descriptors (S, 51) of clouds (S, N, 3) within the unit sphere.

    32 bins of the D2 distribution (distances of random point pairs, Osada et al. 2002), the 3
    extents along the axes, 16 bins of the height (y) profile. Uses at most 1024 points a cloud.
    """
    rng = np.random.default_rng(seed)
    count = points.shape[1]
    subset = rng.permutation(count)[:_SUBSET]
    left, right = rng.integers(0, len(subset), size=(2, _PAIRS))
    rows = np.empty((len(points), _D2_BINS + 3 + _HEIGHT_BINS), dtype=np.float32)
    for row, cloud in zip(rows, points, strict=True):
        chosen = cloud[subset]
        distances = np.sqrt(((chosen[left] - chosen[right]) ** 2).sum(axis=1))
        row[:_D2_BINS] = np.histogram(distances, bins=_D2_BINS, range=(0.0, 2.0))[0] / _PAIRS
        row[_D2_BINS : _D2_BINS + 3] = np.ptp(chosen, axis=0)
        heights = np.histogram(chosen[:, 1], bins=_HEIGHT_BINS, range=(-1.0, 1.0))[0]
        row[_D2_BINS + 3 :] = heights / len(chosen)
    return rows


def knn_accuracy(
    points: NDArray[Any],
    labels: NDArray[Any],
    train: NDArray[Any],
    test: NDArray[Any],
    neighbours: int = 5,
) -> float:
    """Test accuracy of ``neighbours``-NN on standardised descriptors, in [0, 1].

    ``train`` and ``test`` are row indices. The scaling is fitted on the training rows.
    """
    return floor_accuracy(descriptors(points), labels, train, test, neighbours)


def floor_accuracy(
    rows: NDArray[Any],
    labels: NDArray[Any],
    train: NDArray[Any],
    test: NDArray[Any],
    neighbours: int = 5,
) -> float:
    """:func:`knn_accuracy` on descriptors already computed; 0.0 without test rows."""
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import StandardScaler

    if len(test) == 0:
        return 0.0
    scaler = StandardScaler().fit(rows[train])
    rule = KNeighborsClassifier(n_neighbors=min(neighbours, len(train)))
    with warnings.catch_warnings():
        # of few clouds in many classes: scikit-learn asks whether these are classes at all
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        rule.fit(scaler.transform(rows[train]), labels[train])
        return float(rule.score(scaler.transform(rows[test]), labels[test]))
