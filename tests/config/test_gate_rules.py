"""The section ``gate`` of ``params.yaml``."""

from __future__ import annotations

from pathlib import Path

import pytest

from sa3d.config.gate import GateRules, TaskRule, load_rules
from sa3d.errors import ConfigError

REAL = Path(__file__).parents[2] / "params.yaml"


def rules(tmp_path: Path, text: str) -> GateRules:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return load_rules("demo", path)


def test_the_project_and_a_folder_without_settings_have_the_same_rules(tmp_path: Path) -> None:
    assert load_rules("demo", REAL) == GateRules() == load_rules("demo", tmp_path / "none.yaml")
    assert GateRules().tasks == {"svm": TaskRule(minimum=None, max_drop=0.01)}


def test_an_experiment_replaces_what_it_names(tmp_path: Path) -> None:
    text = "gate: {min_seeds: 2, tasks: {svm: {minimum: 0.5}}, experiments: {demo: %s}}"
    found = rules(tmp_path, text % "{tasks: {classify: {max_drop: null}}}")
    assert found == GateRules(min_seeds=2, tasks={"classify": TaskRule(max_drop=None)})
    found = rules(tmp_path, text % "{min_seeds: 3}")
    assert found == GateRules(min_seeds=3, tasks={"svm": TaskRule(minimum=0.5)})
    found = rules(tmp_path, text.replace("demo", "kicad") % "{min_seeds: 3}")
    assert found.min_seeds == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("gate: {min_seeds: 0}", "gate.min_seeds = 0"),
        ("gate: {tasks: {svn: {}}}", "gate.tasks.svn = 'svn': no such task (did you mean 'svm'?)"),
        ("gate: {tasks: {svm: {maxdrop: 1}}}", "unknown key gate.tasks.svm.maxdrop"),
        ("gate: {tasks: {svm: {max_drop: -1}}}", "gate.tasks.svm.max_drop = -1"),
        ("gate: {tasks: {}}", "gate.tasks"),
        ("gate: 3", "gate holds int, not a mapping"),
        (
            "gate: {experiments: {demo: {minseeds: 3}}}",
            "unknown key gate.experiments.demo.minseeds",
        ),
    ],
)
def test_what_is_refused_is_named(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        rules(tmp_path, text)
    assert told in str(error.value)
    assert str(error.value).count("\n") == 0
