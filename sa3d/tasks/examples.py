"""The few test clouds of which runs leave a picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sa3d.data.store import TEST, CloudSet

EXAMPLES = 6


def example_rows(clouds: CloudSet) -> NDArray[np.int64]:
    """The first test row of each of up to six classes, evenly spread, ascending by class."""
    test = clouds.indices(TEST)
    classes = np.unique(clouds.labels[test])
    spread = np.unique(np.linspace(0, len(classes) - 1, EXAMPLES).round().astype(int))
    first = [test[clouds.labels[test] == label][0] for label in classes[spread]]
    return np.array(first, dtype=np.int64)
