"""dvc.yaml says what exists."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.plan import nodes_of
from sa3d.config.loading import experiment_names, load_experiment, source_names

ROOT = Path(__file__).parents[2]
STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def filled(stage: str) -> list[tuple[str, dict[str, Any]]]:
    """Every stage of a `foreach` with its placeholders filled in."""
    found = []
    for key, item in STAGES[stage]["foreach"].items():
        text = yaml.safe_dump(STAGES[stage]["do"]).replace("${key}", key)
        for name, value in item.items():
            text = text.replace(f"${{item.{name}}}", value)
        assert "${" not in text
        found.append((key, yaml.safe_load(text)))
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_every_parameter_and_code_dependency_exists(stage: str) -> None:
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    made = {str(out) for _, filled_in in filled("prepare") for out in filled_in["outs"]}
    for key, filled_in in filled(stage):
        for path in filled_in["params"]:
            section, name = path.split(".")
            assert name in tree[section], f"{stage}@{key}: {path}"
        for dependency in filled_in["deps"]:
            assert dependency in made or (ROOT / dependency).exists(), f"{stage}@{key}"


def test_stages_are_those_of_params_yaml() -> None:
    assert {key for key, _ in filled("prepare")} <= set(source_names(ROOT / "params.yaml"))
    for key, stage in filled("experiment"):
        assert key in experiment_names(ROOT / "params.yaml")
        config = load_experiment(key, ROOT / "params.yaml")
        assert f"data/processed/{config.data.name}.h5" in stage["deps"]
        assert nodes_of(config)


def test_an_experiment_depends_on_what_it_extends() -> None:
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())["experiments"]
    for key, stage in filled("experiment"):
        name = key
        while name is not None:
            assert f"experiments.{name}" in stage["params"]
            name = tree[name].get("extends")


def test_dvc_reads_the_file() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "dvc", "stage", "list", "--name-only"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert {"prepare@shapes", "prepare@kicad", "experiment@demo", "experiment@kicad"} <= set(listed)
