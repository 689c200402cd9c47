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
from sa3d.registry import SOURCES

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
    assert {each["task"] for each in config["evaluate"]} == {"svm", "classify"}
    for each in config["evaluate"]:
        assert each["settings"] == meant[each["task"]]
        assert each["model"] == meant["model"]
        assert each["variants"] == list(meant["variants"])
        assert each["seeds"][0] == 0
    on_the_same_data = [e["task"] for e in config["evaluate"] if e["data"] == meant["data"]]
    assert on_the_same_data == ["svm", "classify"]


def test_the_demo_also_measures_another_seed_and_other_data() -> None:
    found = {each.name: (each.seeds, each.data.points) for each in load("demo").evaluate}
    assert found == {
        "svm-shapes": ((0, 1), 512),
        "svm-shapes-noisy": ((0,), 512),
        "classify-shapes": ((0,), 512),
    }


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


def test_the_share_of_label_smoothing_is_that_of_the_true_class() -> None:
    """Point-M2AE: 0.7 for the true class, 0.3 / 39 for each other one of 40."""
    (classify,) = [e for e in load("point-m2ae").evaluate if e.task == "classify"]
    assert classify.settings.model_dump()["label_smoothing"] == 0.3


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
