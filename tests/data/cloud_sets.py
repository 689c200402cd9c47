"""Made-up processed sets: clouds of given sizes, with or without parts, normals and episodes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sa3d.data.cloud_table import Cloud, CloudTable
from sa3d.data.store import CloudSet, open_clouds
from sa3d.data.writing import write_clouds

SIX = (16, 5, 1 << 10, 16, 7, 33)


def table_of(count: int, *, parts: bool = True, **changes: Any) -> CloudTable:
    """Two classes in turn, families of two of a class, the last two clouds test."""
    columns: dict[str, Any] = {
        "ids": [f"a/{i}-µ" for i in range(count)],
        "labels": np.arange(count) % 2,
        "split": (np.arange(count) >= count - 2).astype(np.uint8),
        "family": np.arange(count) % 2 + np.arange(count) // 4 * 2,
        "class_names": ("one", "two"),
        "source_hash": "f00",
        "normalisation": "subsample",
    }
    if parts:
        columns |= {"part_names": ("p", "q", "r"), "class_parts": ((0, 1), (1, 2))}
    return CloudTable(**columns | changes)


def clouds_of(sizes: Sequence[int], *, parts: bool = True, normals: bool = False) -> list[Cloud]:
    """Random points; parts are those of :func:`table_of`, normals have length one."""
    rng = np.random.default_rng(0)
    made = []
    for row, size in enumerate(sizes):
        points, direction = rng.normal(size=(2, size, 3)).astype(np.float32)
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        made.append(
            Cloud(
                points,
                rng.integers(0, 2, size) + row % 2 if parts else None,
                direction if normals else None,
            )
        )
    return made


def set_of(
    path: Path, sizes: Sequence[int], *, parts: bool = True, normals: bool = False, **changes: Any
) -> CloudSet:
    """A set written and opened."""
    table = table_of(len(sizes), parts=parts, **changes)
    return open_clouds(write_clouds(path, clouds_of(sizes, parts=parts, normals=normals), table))
