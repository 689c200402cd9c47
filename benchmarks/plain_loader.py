"""A data pipeline written plainly, as research code writes it: the peer of `loader.py`.

A file a cloud; an item is loaded, shuffled through a permutation of all its points, cut to the
first ones and scaled to the unit sphere in numpy; torch's DataLoader collates items, in the
training process or in workers; clouds are then scaled and shifted one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset


class CloudFiles(Dataset[tuple[Tensor, int]]):
    """One .npy file a cloud."""

    def __init__(self, files: list[Path], labels: list[int], stored: int, asked: int) -> None:
        self.files, self.labels, self.asked = files, labels, asked
        self.order = np.arange(stored)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, at: int) -> tuple[Tensor, int]:
        cloud = np.load(self.files[at]).astype(np.float32)
        np.random.shuffle(self.order)
        cloud = cloud[self.order[: self.asked]]
        cloud = cloud - cloud.mean(axis=0)
        cloud = cloud / np.sqrt((cloud**2).sum(axis=1)).max()
        return torch.from_numpy(cloud).float(), self.labels[at]


def scaled_and_shifted(points: Tensor) -> Tensor:
    """Every cloud by three random factors and offsets of its own."""
    for cloud in points:
        scale = np.random.uniform(2 / 3, 3 / 2, size=3).astype(np.float32)
        shift = np.random.uniform(-0.2, 0.2, size=3).astype(np.float32)
        cloud.mul_(torch.from_numpy(scale)).add_(torch.from_numpy(shift))
    return points


def plain_batches(files: CloudFiles, batch: int, workers: int) -> Iterator[Tensor]:
    """Batches without end; workers stay alive from epoch to epoch."""
    loader = DataLoader(
        files,
        batch_size=batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    while True:
        for points, _ in loader:
            yield scaled_and_shifted(points)
