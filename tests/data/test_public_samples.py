"""Real files of the public data sets, where ``SA3D_SAMPLES`` names a folder of them.

The folder holds parts of the data sets under their official names: an incomplete download.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sa3d.data.prepare import prepare
from sa3d.data.sources.modelnet40 import source as modelnet40
from sa3d.data.sources.modelnet40.settings import ModelNet40Source
from sa3d.data.sources.shapenet55 import source as shapenet55
from sa3d.data.sources.shapenet55.settings import ShapeNet55Source
from sa3d.data.sources.shapenetpart import source as shapenetpart
from sa3d.data.sources.shapenetpart.settings import ShapeNetPartSource
from sa3d.data.store import TEST, TRAIN, VALIDATION, CloudSet, open_clouds
from sa3d.errors import DataError

SAMPLES = os.environ.get("SA3D_SAMPLES", "")
pytestmark = pytest.mark.skipif(not SAMPLES, reason="SA3D_SAMPLES names no folder of real files")


def made(source: Any, tmp_path: Path) -> CloudSet:
    with pytest.raises(DataError, match="lacks"):
        prepare("x", source, tmp_path / "x.h5", quiet=True)
    out = prepare("x", source, tmp_path / "x.h5", quiet=True, allow_missing=True)
    return open_clouds(out)


@pytest.mark.parametrize("variant", [40, 10])
def test_modelnet(variant: Any, tmp_path: Path) -> None:
    source = ModelNet40Source(source="modelnet40", root=SAMPLES, variant=variant)
    survey, classes = modelnet40.look(source)
    assert len(classes) == variant
    splits = [each.split for each in (*survey.files, *survey.missing)]
    official = modelnet40.OFFICIAL[variant]
    assert splits.count(TRAIN) == official["train"]
    assert splits.count(TEST) == official["test"]
    clouds = made(source, tmp_path)
    assert len(clouds) == len(survey.files)
    assert clouds.num_points == 8192
    for row, name in enumerate(clouds.ids):
        assert clouds.class_names[clouds.labels[row]] == name.rpartition("_")[0]
        radius = np.linalg.norm(clouds.cloud(row), axis=1).max()
        assert 0.5 < radius < 1.001  # scaled before they were written
        length = np.linalg.norm(clouds.normals_of(row), axis=1)
        assert (np.abs(length - 1.0) < 0.01).mean() > 0.99  # a few are (1, 1, 1) in the files


def test_shapenetpart(tmp_path: Path) -> None:
    source = ShapeNetPartSource(source="shapenetpart", root=SAMPLES)
    survey, categories = shapenetpart.look(source)
    splits = [each.split for each in (*survey.files, *survey.missing)]
    counts = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
    assert {name: splits.count(each) for name, each in counts.items()} == shapenetpart.OFFICIAL
    assert survey.notes == ("35 shapes stand in two of the lists.",)
    clouds = made(source, tmp_path)
    assert len(clouds) == len(survey.files)
    for row, name in enumerate(clouds.ids):
        synset = name.partition("/")[0]
        assert clouds.class_names[clouds.labels[row]] == categories[synset]
        assert set(clouds.parts(row).tolist()) <= set(shapenetpart.PARTS[synset])


def test_shapenet55() -> None:
    survey = shapenet55.look(ShapeNet55Source(source="shapenet55", root=SAMPLES))
    splits = [each.split for each in (*survey.files, *survey.missing)]
    assert splits.count(TRAIN) == shapenet55.OFFICIAL["train"]
    assert splits.count(TEST) == shapenet55.OFFICIAL["test"]
    assert {each.label for each in survey.missing} == set(range(55))
