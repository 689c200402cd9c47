"""What the downstream tasks share: splits read in a fixed way, scores, predictions."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix
from torch import Tensor

from sa3d.config.experiment import ExperimentConfig
from sa3d.data.loader import Batches
from sa3d.data.store import CloudSet
from sa3d.metrics import names as keys
from sa3d.utils.files import write_whole
from sa3d.utils.progress import ProgressLine

Ints = NDArray[np.int64]
SAMPLING = "farthest-point sampling from the first stored point"


def fixed_batches(
    clouds: CloudSet, rows: Ints, config: ExperimentConfig, batch_size: int
) -> Batches:
    """All of ``rows``, in order, each cloud reduced to ``data.points`` by farthest-point
    sampling: the same points every time, no augmentation."""
    return Batches(
        clouds,
        rows,
        batch_size=batch_size,
        points=config.data.points,
        seed=config.seed,
        shuffle=False,
        drop_last=False,
        sampling="fps",
    )


def shown(
    batches: Batches, device: torch.device, line: ProgressLine, what: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """(points (B, N, 3), labels (B,)) of every batch on ``device``, with a progress line."""
    for number, batch in enumerate(batches.epoch(0), start=1):
        yield batch.points.to(device), batch.labels.to(device)
        line.show(f"{what} {number}/{len(batches)}", always=number == len(batches))


def scores(labels: Ints, predicted: Ints, class_names: tuple[str, ...]) -> dict[str, Any]:
    """Accuracy, its mean over the classes that occur, per class, and the confusion matrix.

    Args:
        labels, predicted: (S,) true and predicted class of every test cloud.
    """
    matrix = confusion_matrix(labels, predicted, labels=np.arange(len(class_names)))
    present = matrix.sum(axis=1) > 0
    recall = matrix.diagonal()[present] / matrix.sum(axis=1)[present]
    names = [name for name, there in zip(class_names, present, strict=True) if there]
    return {
        "metrics": {
            keys.TEST_ACC: float((labels == predicted).mean()),
            keys.MEAN_CLASS_ACC: float(recall.mean()),
        },
        "confusion": {
            "matrix": matrix.tolist(),
            "class_names": list(class_names),
            "per_class_accuracy": dict(zip(names, recall.tolist(), strict=True)),
        },
    }


def save_predictions(path: Path, clouds: CloudSet, rows: Ints, predicted: Ints) -> None:
    """``labels``, ``predicted``, ``index`` (row of the data set) and ``group`` (family) of every
    test cloud, for intervals and paired comparisons."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        labels=clouds.labels[rows],
        predicted=predicted,
        index=rows,
        group=clouds.family[rows],
    )
    write_whole(path, buffer.getbuffer())
