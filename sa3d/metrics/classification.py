"""Numbers of a classification: accuracy, its mean over classes, confusion."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa3d.metrics import names


def classification(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], class_names: tuple[str, ...]
) -> tuple[dict[str, float], dict[str, Any]]:
    """Metrics, and for the figures the confusion matrix with its class names.

    Args:
        labels, predicted: (S,) true and predicted class of every test cloud.
        class_names: of all classes, also those that do not occur.

    Returns:
        Metrics by name; ``matrix`` (rows: true class), ``class_names`` and
        ``per_class_accuracy`` of the classes that occur.
    """
    count = len(class_names)
    pairs = np.bincount(labels * count + predicted, minlength=count * count)
    matrix = pairs.reshape(count, count)
    present = matrix.sum(axis=1) > 0
    recall = matrix.diagonal()[present] / matrix.sum(axis=1)[present]
    known = [name for name, there in zip(class_names, present, strict=True) if there]
    metrics = {
        names.TEST_ACC: float((labels == predicted).mean()),
        names.MEAN_CLASS_ACC: float(recall.mean()),
    }
    return metrics, {
        "matrix": matrix.tolist(),
        "class_names": list(class_names),
        "per_class_accuracy": dict(zip(known, recall.tolist(), strict=True)),
    }
