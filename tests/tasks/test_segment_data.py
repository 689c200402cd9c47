"""Clouds, categories and parts that a segmentation reads: how they count, and which do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from segment_cases import Fixed, experiment, scratch
from task_runs import context, do, tiny_clouds, with_model

from sa3d.config.experiment import ExperimentConfig
from sa3d.config.loading import load_experiment
from sa3d.data.cloud_table import Cloud, CloudTable
from sa3d.data.store import CloudSet, open_clouds
from sa3d.data.writing import write_clouds
from sa3d.errors import ConfigError, DataError
from sa3d.metrics import names as keys
from sa3d.models import build_segmenter
from sa3d.tasks.segment.reading import PartReader, check_parts
from sa3d.viz.segmented import load_segmented

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def config(tiny: Path, tmp_path: Path) -> ExperimentConfig:
    return experiment(tiny, tmp_path)


def test_a_part_of_another_category_is_never_predicted(
    config: ExperimentConfig, tiny: Path
) -> None:
    clouds, run = tiny_clouds(tiny), scratch(config)
    logits = torch.zeros(7, 64, len(clouds.part_names))
    logits[..., 0] = 9.0  # a part of the first category, everywhere
    reader = PartReader(clouds, run, 7, torch.device("cpu"))
    found = reader.read(Fixed(logits), clouds.indices(1)).scores  # type: ignore[arg-type]
    guessed = set(np.flatnonzero(found.confusion.sum(axis=0)))
    assert guessed == {parts[0] for parts in clouds.class_parts}


def test_the_loss_of_a_reading_is_the_mean_over_points_whatever_the_batches(
    config: ExperimentConfig, tiny: Path
) -> None:
    clouds, run = tiny_clouds(tiny), scratch(config)
    torch.manual_seed(0)
    segmenter = build_segmenter(run.model, len(clouds.part_names), clouds.num_classes).train()
    found = [
        PartReader(clouds, run, size, torch.device("cpu")).measure(segmenter, clouds.indices(1))
        for size in (32, 5)
    ]
    assert segmenter.training, "its mode is restored"
    assert found[0].loss == pytest.approx(found[1].loss, rel=1e-5)
    assert found[0].score == pytest.approx(found[1].score, abs=1e-3)


def test_validation_counts_a_family_once(config: ExperimentConfig, tiny: Path) -> None:
    rows = tiny_clouds(tiny).indices(1)[:5]
    family = tiny_clouds(tiny).family.copy()
    family[rows] = [0, 0, 0, 0, 1]
    clouds = replace(tiny_clouds(tiny), family=family)
    reader = PartReader(clouds, scratch(config), 5, torch.device("cpu"))
    torch.manual_seed(0)
    segmenter = build_segmenter(config.model, len(clouds.part_names), clouds.num_classes)
    each = reader.read(segmenter, rows).scores.per_cloud
    assert len(set(each)) > 1
    assert reader.measure(segmenter, rows).score == pytest.approx(each.mean())
    assert reader.validate(segmenter, rows).score == pytest.approx((each[:4].mean() + each[4]) / 2)


# --- other data ----------------------------------------------------------------------------


def made(path: Path, sizes: list[int], **changes: Any) -> CloudSet:
    """Clouds of these sizes; two categories in turn that share part 1, the last four test."""
    count = len(sizes)
    columns: dict[str, Any] = {
        "ids": [f"cloud-{row}" for row in range(count)],
        "labels": np.arange(count) % 2,
        "split": (np.arange(count) >= count - 4).astype(np.uint8),
        "family": np.arange(count),
        "class_names": ("one", "two"),
        "part_names": ("p", "q", "r"),
        "class_parts": ((0, 1), (1, 2)),
        "source_hash": "f00",
        "normalisation": "subsample",
    } | changes
    rng = np.random.default_rng(0)
    clouds = []
    for row, size in enumerate(sizes):
        points = rng.normal(size=(size, 3)).astype(np.float32)
        parts = None
        if columns["part_names"]:
            members = np.array(columns["class_parts"][columns["labels"][row]])
            parts = members[(points[:, 1] > 0).astype(int)]
        clouds.append(Cloud(points, parts))
    return open_clouds(write_clouds(path, clouds, CloudTable(**columns)))


def test_categories_may_share_parts_and_small_clouds_repeat_points(
    config: ExperimentConfig, tiny: Path, tmp_path: Path
) -> None:
    clouds = made(tmp_path / "made.h5", [100, 40, 64, 51] * 5)
    run = scratch(config, batch_size=4)
    result = do(run, context(tiny, tmp_path / "run", clouds=clouds.path))
    assert result.data["test"] == 4
    assert set(result.details["segmentation"]["parts"]) == {"p", "q", "r"}
    shown = load_segmented(tmp_path / "run" / "parts.npz")
    assert shown.points.shape == (2, 64, 3)
    # the first test cloud of category two has 40 points: 24 of them come twice
    assert len(np.unique(shown.points[1], axis=0)) == 40


def test_one_category_is_semantic_segmentation(
    config: ExperimentConfig, tiny: Path, tmp_path: Path
) -> None:
    single = {"labels": np.zeros(16, dtype=int), "class_names": ("all",)}
    members = {"class_parts": ((0, 1),), "part_names": ("low", "high")}
    clouds = made(tmp_path / "made.h5", [70] * 16, **single, **members)
    run = scratch(config, batch_size=4)
    result = do(run, context(tiny, tmp_path / "run", clouds=clouds.path))
    assert result.metrics[keys.TEST_MIOU] == result.metrics[keys.TEST_MIOU_CATEGORY]


def test_a_category_that_only_test_has_is_named(
    config: ExperimentConfig, tiny: Path, tmp_path: Path
) -> None:
    labels = np.zeros(16, dtype=int)
    labels[-1] = 1
    clouds = made(tmp_path / "made.h5", [70] * 16, labels=labels)
    where = context(tiny, tmp_path / "run", clouds=clouds.path)
    result = do(scratch(config, batch_size=4), where)
    assert result.protocol["categories_without_training_clouds"] == "two"
    rows = result.details["segmentation"]["categories"]
    assert [(row["name"], row["clouds"]) for row in rows] == [("one", 3), ("two", 1)]


def test_data_without_parts_are_refused(
    config: ExperimentConfig, tiny: Path, tmp_path: Path
) -> None:
    none = {"part_names": (), "class_parts": ()}
    clouds = made(tmp_path / "made.h5", [70] * 16, **none)
    with pytest.raises(DataError, match=r"made\.h5 has no part labels; choose a data set") as said:
        do(scratch(config), context(tiny, tmp_path / "run", clouds=clouds.path))
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("part", [2, 7])
def test_a_label_outside_its_category_is_refused(tmp_path: Path, part: int) -> None:
    clouds = made(tmp_path / "made.h5", [70] * 16)
    parts = np.array(clouds.flat_parts)
    parts[5] = part
    with pytest.raises(DataError, match=rf"cloud 'cloud-0' .*{part}\], but 'one' may contain \[0"):
        check_parts(replace(clouds, flat_parts=parts))


def test_fewer_points_than_patches_are_refused(config: ExperimentConfig, tmp_path: Path) -> None:
    few = ["evaluate.segment.data.points=6"]
    with pytest.raises(ConfigError, match="need clouds of 8 points"):
        load_experiment("parts", tmp_path / "params.yaml", overrides=few)


def test_an_encoder_too_shallow_is_refused_before_training(
    config: ExperimentConfig, tiny: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"depth=2: .* use at least 3 blocks"):
        do(with_model(scratch(config), depth=2), context(tiny, tmp_path / "run"))
    assert not (tmp_path / "run" / "last.pt").exists()


def test_a_batch_larger_than_the_data(config: ExperimentConfig, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="use a smaller batch_size"):
        do(scratch(config, batch_size=4096), context(tiny, tmp_path / "run"))
