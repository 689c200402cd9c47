"""A task that its data set cannot serve is refused before anything is trained, in one line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from flows.settings import settle
from sa3d.config.loading import load_experiment
from sa3d.data.store import TRAIN
from sa3d.errors import DataError
from sa3d.utils import paths


@pytest.fixture
def altered(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, Any], None]:
    """Replaces an array of the tiny data set, in a project of the test's own."""
    root = tmp_path / "project"
    shutil.copytree(tiny, root)
    monkeypatch.setenv("SA3D_ROOT", str(root))
    monkeypatch.chdir(root)

    def alter(name: str, change: Any) -> None:
        with h5py.File(paths.processed("tiny"), "r+") as file:
            file[name][...] = change({key: file[key][()] for key in ("labels", "family", "split")})

    return alter


def refused(*overrides: str) -> str:
    config = load_experiment("tiny", overrides=overrides)
    with pytest.raises(DataError) as told:
        settle(config)
    assert not paths.work().exists()
    (line,) = str(told.value).splitlines()
    return line


def test_the_data_set_as_it_is_serves_all_tasks(altered: object) -> None:
    assert settle(load_experiment("tiny")).digests


def test_one_class(altered: Callable[[str, Any], None]) -> None:
    altered("labels", lambda arrays: np.zeros_like(arrays["labels"]))
    assert "all training clouds are of one class" in refused()


def test_more_folds_than_clouds_of_a_class(altered: object) -> None:
    line = refused("evaluate.svm.settings.folds=99")
    assert line.startswith("svm-tiny-")
    assert "folds=99, but the smallest class has" in line
    assert line.endswith("set the SVM's folds lower")


def test_fewer_families_than_folds(altered: Callable[[str, Any], None]) -> None:
    # one family a split: a family lies on one side
    altered("family", lambda arrays: arrays["split"].astype(np.int64))
    assert "there are 1 families; set the SVM's folds lower" in refused()


def test_no_class_with_two_families_to_divide(altered: Callable[[str, Any], None]) -> None:
    altered("family", lambda arrays: arrays["labels"] + 100 * (arrays["split"] != TRAIN))
    line = refused()
    assert line.startswith("classify-tiny-")
    assert "no validation split possible, every class has a single family" in line


def test_an_episode_that_cannot_be_drawn(altered: object) -> None:
    line = refused("evaluate.fewshot.settings.queries=9999")
    assert line.startswith("fewshot-3w2s-tiny-")
    assert "9999" in line
