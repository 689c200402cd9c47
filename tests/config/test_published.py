"""The experiments of ``params.yaml`` mean what they are published to mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sa3d.config.experiment import ExperimentConfig
from sa3d.config.loading import (
    experiment_names,
    load_experiment,
    load_source,
    require_data,
    source_names,
)
from sa3d.errors import ConfigError
from sa3d.methods.settings import MethodConfig
from sa3d.models.point_m2ae.settings import PointM2AEConfig
from sa3d.models.point_mae.settings import PointMAEConfig
from sa3d.registry import PRETRAIN, SOURCES, TASKS

REAL = Path(__file__).parents[2] / "params.yaml"
MEANING: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("meaning.yaml").read_text())


def load(name: str, *overrides: str) -> ExperimentConfig:
    return load_experiment(name, REAL, overrides)


def method(config: ExperimentConfig, variant: str) -> MethodConfig:
    found = config.variants[variant]
    assert isinstance(found, MethodConfig)
    return found


def test_no_experiment_has_gone() -> None:
    assert set(MEANING) <= set(experiment_names(REAL))


@pytest.mark.parametrize("name", MEANING)
def test_an_experiment_means_what_it_meant(name: str) -> None:
    meant, config = MEANING[name], load(name).model_dump(mode="json")
    assert config["seeds"] == [0]
    assert config["model"] == meant["model"]
    assert config["pretrain"]["data"] == meant["data"]
    assert config["variants"] == meant["variants"]
    assert config["reference"] == next(iter(meant["variants"]))
    for each in config["evaluate"]:
        assert each["variants"] == list(meant["variants"])
        assert each["seeds"][0] == 0


# --- the tasks of the published recipes: ../docs/protocol.md, "Presets" --------------------------

GM3D = {
    "epochs": 500,
    "schedule": "iteration",
    "warmup_epochs": 5.0,
    "min_lr": 1e-6,
    "clip": None,
    "precision": "bf16",
    "label_smoothing": 0.0,
    "augment": "scale_translate",
}
OWN = {
    "epochs": 301,
    "schedule": "epoch",
    "warmup_epochs": 10.0,
    "cosine_epochs": 300,
    "min_lr": 1e-6,
    "clip": 10.0,
    "precision": "fp32",
    "batch_size": 32,
    "lr": 5e-4,
    "layer_decay": 1.0,
    "augment": "scale_translate",
}
FEW = OWN | {"epochs": 151, "cosine_epochs": 150, "folds": 10}
PARTS = OWN | {
    "epochs": 300,
    "cosine_epochs": None,
    "batch_size": 16,
    "lr": 2e-4,
    "augment": "scale_translate_small",
}
SCAN = ("obj-bg", "obj-only", "pb-t50-rs")
SA3DF_MAE = {
    "svm-modelnet40": {"official_c": 0.01},
    "svm-scanobjectnn-obj-bg": {"official_c": 0.01},
    "classify-modelnet40": GM3D
    | {"batch_size": 32, "lr": 5e-4 * 40 / 256, "layer_decay": 0.75, "votes": 299},
    **{
        f"classify-scanobjectnn-{data}": GM3D | {"batch_size": 64, "lr": lr, "layer_decay": 0.75}
        for data, lr in zip(SCAN, (2.5e-4, 1.25e-4, 1.25e-4), strict=True)
    },
    "segment-shapenetpart": PARTS,
}
SA3DF_M2AE = {
    "svm-modelnet40-hdf5": {"official_c": 0.012},
    "svm-scanobjectnn-obj-bg": {"official_c": 0.042},
    "classify-modelnet40": GM3D
    | {"batch_size": 40, "lr": 1e-3 * 40 / 256, "layer_decay": 1.0, "votes": 49, "pooling": "sum"},
    **{
        f"classify-scanobjectnn-{data}": GM3D
        | {"batch_size": 64, "lr": 1.25e-4, "layer_decay": 1.0, "pooling": "concat"}
        for data in SCAN
    },
    "segment-shapenetpart": PARTS,
}
MAE = SA3DF_MAE | {
    "classify-modelnet40": OWN | {"label_smoothing": 0.0, "votes": 299},
    **{f"classify-scanobjectnn-{data}": OWN | {"label_smoothing": 0.0} for data in SCAN},
}
M2AE = SA3DF_M2AE | {
    "classify-modelnet40": OWN | {"label_smoothing": 0.3, "votes": 49, "pooling": "sum"},
    **{
        f"classify-scanobjectnn-{data}": OWN | {"label_smoothing": 0.0, "pooling": "concat"}
        for data in SCAN
    },
}
EPISODES = [(way, shot) for way in (5, 10) for shot in (10, 20)]


def few(lr: float, smoothing: float) -> dict[str, dict[str, Any]]:
    return {
        f"fewshot-{way}w{shot}s-modelnet-fewshot": FEW
        | {"way": way, "shot": shot, "lr": lr, "label_smoothing": smoothing}
        for way, shot in EPISODES
    }


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("point-mae-sa3df", SA3DF_MAE | few(1e-3, 0.0)),
        ("point-mae-sa3d", SA3DF_MAE | few(1e-3, 0.0)),
        ("point-mae", MAE | few(5e-4, 0.0)),
        ("point-m2ae-sa3df", SA3DF_M2AE | few(5e-4, 0.3)),
        ("point-m2ae-sa3d", SA3DF_M2AE | few(5e-4, 0.3)),
        ("point-m2ae", M2AE | few(5e-4, 0.3)),
    ],
)
def test_every_published_row_has_its_recipe(name: str, rows: dict[str, dict[str, Any]]) -> None:
    found = {each.name: each for each in load(name).evaluate}
    assert set(found) == set(rows)
    for row, wanted in rows.items():
        settings = found[row].settings.model_dump(mode="json")
        assert {key: settings[key] for key in wanted} == wanted, row


@pytest.mark.parametrize("name", ["point-mae-sa3df", "point-mae", "point-m2ae-sa3df", "point-m2ae"])
def test_points_and_patches_of_the_published_rows(name: str) -> None:
    for each in load(name).evaluate:
        dense = "scanobjectnn" in each.data.name or each.task == "segment"
        assert each.data.points == (2048 if dense else 1024), each.name
        trained = each.task != "svm"  # the SVM reads the patches of pre-training
        if isinstance(each.model, PointMAEConfig):
            assert each.model.groups == (128 if dense and trained else 64), each.name
        else:
            assert isinstance(each.model, PointM2AEConfig)
            large = each.task == "classify" and dense
            assert each.model.group_sizes == ((32, 16, 16) if large else (16, 8, 8)), each.name
            assert each.model.groups == (512, 256, 64)


def test_the_demo_runs_every_task_and_measures_another_seed_and_other_data() -> None:
    found = {each.name: (each.seeds, each.data.points) for each in load("demo").evaluate}
    assert found == {
        "svm-shapes": ((0, 1), 512),
        "svm-shapes-noisy": ((0,), 512),
        "classify-shapes": ((0,), 512),
        "fewshot-5w10s-shapes": ((0,), 512),
        "segment-shapes": ((0,), 512),
    }
    assert {each.task for each in load("demo").evaluate} == set(TASKS) - {PRETRAIN}


@pytest.mark.parametrize(
    ("name", "variant", "masked"),
    [
        ("point-mae-sa3df", "sa3df", 39),  # SA3D floors the visible patches
        ("point-mae-sa3df", "random-masks", 38),  # Point-MAE floors the masked ones
        ("point-mae-sa3d", "sa3d", 39),
        ("point-mae", "random-masks", 38),
        ("point-m2ae-sa3df", "sa3df", 51),
        ("point-m2ae-sa3df", "random-masks", 51),
        ("point-m2ae-sa3d", "sa3d", 51),
        ("point-m2ae", "random-masks", 51),
        ("kicad-m2ae", "sa3df", 51),
        ("kicad-m2ae", "random-masks", 51),
    ],
)
def test_published_mask_counts_of_64_patches(name: str, variant: str, masked: int) -> None:
    config = load(name)
    assert config.model.num_tokens == 64
    assert method(config, variant).masked_of(64) == masked


@pytest.mark.parametrize(("ratio", "sa3df", "mae"), [(0.75, 48, 48), (0.5, 32, 32), (0.9, 58, 57)])
def test_ratios_that_divide_are_not_off_by_one(ratio: float, sa3df: int, mae: int) -> None:
    config = load("demo", f"pretrain.mask_ratio={ratio}")
    assert method(config, "sa3df").masked_of(64) == sa3df
    assert method(config, "random-masks").masked_of(64) == mae


@pytest.mark.parametrize("name", source_names(REAL))
def test_every_data_set_is_valid(name: str) -> None:
    source = load_source(name, REAL)
    assert source.model_dump()["source"] in SOURCES


@pytest.mark.parametrize("name", experiment_names(REAL))
def test_every_experiment_reads_the_same_when_written_out_in_full(
    name: str, tmp_path: Path
) -> None:
    config = load(name)
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump({"experiments": {name: config.model_dump(mode="json")}}))
    assert load_experiment(name, file) == config


def test_data_that_nothing_makes_is_refused_with_what_there_is() -> None:
    require_data(load("demo"), REAL)
    with pytest.raises(ConfigError, match=r"data set other: nothing here makes it.*kicad"):
        require_data(load("demo", "evaluate.classify.data.name=other"), REAL)


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no experiment 'dmeo' in .* \(did you mean 'demo'\?\)"):
        load("dmeo")
    with pytest.raises(ConfigError, match=r"no data set 'shape' in .* \(did you mean 'shapes'\?\)"):
        load_source("shape", REAL)


def test_a_source_with_another_sources_key() -> None:
    with pytest.raises(ConfigError, match=r"^--set: unknown key datasets.shapes.min_shapes"):
        load_source("shapes", REAL, ["min_shapes=3"])
    with pytest.raises(ConfigError, match=r"unknown data source 'shaps' \(did you mean 'shapes'"):
        load_source("shapes", REAL, ["source=shaps"])
