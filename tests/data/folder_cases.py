"""Folders of small files of a person's own, and the data sets made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from pypcd4.pypcd4 import PointCloud

from sa3d.data.prepare import prepare
from sa3d.data.sources.folder.settings import FolderSource
from sa3d.data.sources.folder.source import inspect
from sa3d.data.store import CloudSet, open_clouds
from sa3d.errors import DataError

NUMBERS = {"chair": 1.0, "mug": 2.0}


def write(path: Path, number: int = 0, points: int = 100) -> Path:
    """A file of its suffix's format: a box of its own proportions, or a cloud of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(number + 1000)
    kind = path.suffix[1:].lower()
    cloud = rng.normal(size=(points, 3))
    if kind in ("xyz", "txt"):
        np.savetxt(path, cloud)
    elif kind == "npy":
        np.save(path, cloud)
    elif kind == "pcd":
        PointCloud.from_xyz_points(cloud.astype(np.float32)).save(path)
    else:
        box = trimesh.creation.box(extents=rng.uniform(0.3, 3.0, size=3))
        data = box.export(file_type=kind)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def fill(root: Path, *places: str) -> Path:
    """Files of different geometry at these places below ``root``."""
    for number, place in enumerate(places):
        write(root / place, number)
    return root


def source(root: Path, **changes: Any) -> FolderSource:
    return FolderSource(root=str(root), **{"points": 128, **changes})


def made(root: Path, out: Path, **changes: Any) -> CloudSet:
    return open_clouds(prepare("own", source(root, **changes), out / "own.h5", quiet=True))


def splits(clouds: CloudSet) -> dict[str, int]:
    return dict(zip(clouds.ids, clouds.split.tolist(), strict=True))


def problems(root: Path, **changes: Any) -> str:
    with pytest.raises(DataError) as caught:
        inspect(source(root, **changes), quiet=True)
    assert "\n" not in str(caught.value)
    return str(caught.value)
