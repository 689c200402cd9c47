"""``prefect.yaml``, the forms and ``params.yaml`` fit each other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.utilities.schema_tools.validation import validate
from typer.testing import CliRunner

from flows import prefect_yaml
from flows.deployed import FLOWS
from sa3d.config.loading import experiment_names, load_experiment
from sa3d.registry import load_at

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "prefect.yaml").read_text(encoding="utf-8")
TREE: dict[str, Any] = yaml.safe_load(TEXT)
BY_NAME = {each["name"]: each for each in TREE["deployments"]}


def test_the_file_is_what_the_forms_and_params_yaml_make() -> None:
    assert prefect_yaml.prefect_yaml() == TEXT, f"write it again: {prefect_yaml.WRITE}"


def test_every_flow_is_deployed_on_its_pool() -> None:
    assert list(BY_NAME) == [*FLOWS, "gpu"]
    for name, each in BY_NAME.items():
        pool = "gpu" if name == "gpu" else "orchestrator"
        assert each["work_pool"] == {"name": pool, "work_queue_name": "default"}
        assert each["tags"]
        assert each["description"]


@pytest.mark.parametrize("name", FLOWS)
def test_a_deployment_is_a_flow_and_begins_with_what_its_form_takes(name: str) -> None:
    where = BY_NAME[name]["entrypoint"]
    module, _, attribute = where.rpartition(".")
    assert load_at(f"{module}:{attribute}") is FLOWS[name]
    given = BY_NAME[name]["parameters"]
    assert validate(given, FLOWS[name].parameters.model_dump()) == []
    form = FLOWS[name].validate_parameters(given)["request"]
    first = experiment_names()[0]
    assert first in str(form.model_dump(exclude_defaults=True))


def test_a_person_reads_what_params_yaml_says_of_every_experiment() -> None:
    said = BY_NAME["experiment"]["description"]
    for name in experiment_names():
        config = load_experiment(name)
        method = config.methods[config.reference]
        row = next(line for line in said.splitlines() if line.startswith(f"| {name} |"))
        assert f"| {method.epochs} | {method.lr:g} | {method.batch_size} |" in row
        assert config.description in row


def test_no_place_of_this_machine_stands_in_it() -> None:
    (step,) = TREE["pull"]
    place = step["prefect.deployments.steps.set_working_directory"]["directory"]
    assert place == "{{ $SA3D_ROOT }}"
    assert not re.search(r"(?<![\w:}/])/(home|root|work|tmp|usr|opt)\b", TEXT)


@pytest.mark.slow
def test_another_setting_makes_the_check_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(params)
    monkeypatch.setenv("SA3D_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    assert runner.invoke(prefect_yaml.app, ["--check"]).exit_code == 2  # none is there
    assert runner.invoke(prefect_yaml.app).exit_code == 0
    assert (tmp_path / "prefect.yaml").read_text() == TEXT
    assert runner.invoke(prefect_yaml.app, ["--check"]).exit_code == 0
    (tmp_path / "params.yaml").write_text(params.replace("epochs: 12\n", "epochs: 13\n"))
    assert runner.invoke(prefect_yaml.app, ["--check"]).exit_code == 2
