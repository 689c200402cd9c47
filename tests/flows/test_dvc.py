"""dvc.yaml follows from params.yaml, and DVC's own tools can change params.yaml."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.repo import Repo
from dvc.stage import PipelineStage
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import modify_yaml

from flows.dvc_pipeline import app, dvc_yaml
from sa3d import registry
from sa3d.config.loading import load_experiment, load_source
from sa3d.config.resolve import used_recipes, with_recipes
from sa3d.errors import ConfigError

ROOT = Path(__file__).parents[2]
PARAMS = ROOT / "params.yaml"
TREE: dict[str, Any] = yaml.safe_load(PARAMS.read_text())
EXPERIMENTS = list(TREE["experiments"])
ENDLESS = {"procedural"}  # data sets without a file
DATASETS = [name for name in TREE["datasets"] if name not in ENDLESS]
# recipes inside recipes, an encoder from elsewhere, data that nothing makes
SMALL = """\
datasets:
  balls: {source: shapes, points: 256}
  parts: {source: kicad, root: /models}
recipes:
  quick: {recipe: shared, epochs: 1}
  shared: {batch_size: 8, lr: 0.01}
  unused: {epochs: 9}
experiments:
  first:
    model: {groups: 8, group_size: 8}
    pretrain: {data: {name: balls, points: 64}, mask_ratio: 0.5, recipe: quick}
    variants: {mae: {method: mae, mask: random}}
    evaluate: [{task: svm}, {task: svm, data: parts}]
  second:
    model: {groups: 8, group_size: 8}
    variants: {ours: {checkpoint: given/model}}
    evaluate: [{task: svm, data: {name: scans, points: 64}}]
"""


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, PipelineStage]]:
    """The stages of this project as DVC itself understands ``dvc.yaml``, by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.mktemp("site")))
        with Repo(str(ROOT)) as repo:
            found = {s.name: s for s in repo.index.stages if isinstance(s, PipelineStage)}
            assert repo.config["core"]["analytics"] is False
            assert repo.config["core"]["check_update"] is False
            yield found


def files(stage: PipelineStage) -> set[str]:
    """What a stage reads beside params.yaml."""
    return {str(dep) for dep in stage.deps} - {"params.yaml"}


def parameters(stage: PipelineStage) -> set[str]:
    return {key for dep in stage.deps if str(dep) == "params.yaml" for key in dep.params}


def command(*words: str) -> int:
    """Exit status of the command that writes dvc.yaml, here."""
    with pytest.raises(SystemExit) as left:
        app(words)
    return int(left.value.code or 0)


def outputs(stage: PipelineStage) -> dict[str, Any]:
    return {str(out): out for out in stage.outs}


def test_dvc_yaml_is_up_to_date() -> None:
    assert (ROOT / "dvc.yaml").read_text() == dvc_yaml(PARAMS)


def test_each_data_set_and_experiment_has_a_stage(stages: dict[str, PipelineStage]) -> None:
    expected = {f"prepare@{name}" for name in DATASETS}
    expected |= {f"experiment@{name}" for name in EXPERIMENTS}
    assert set(stages) == expected


@pytest.mark.parametrize("name", DATASETS)
def test_processed_data_depend_on_their_source(name: str, stages: dict[str, PipelineStage]) -> None:
    stage = stages[f"prepare@{name}"]
    raw = getattr(load_source(name, PARAMS), "root", "sa3d/data/sources/shapes")
    assert files(stage) == {raw, "sa3d/data"}
    assert parameters(stage) == {f"datasets.{name}"}
    assert set(outputs(stage)) == {f"data/processed/{name}.{end}" for end in ("h5", "json")}
    assert all((ROOT / file).exists() for file in files(stage))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_depends_on_what_it_reads(
    name: str, stages: dict[str, PipelineStage]
) -> None:
    stage = stages[f"experiment@{name}"]
    code = {"sa3d", "flows", "extensions/point_ops", "extensions/csrc"}
    assert all((ROOT / folder).is_dir() for folder in code)
    read = set(load_experiment(name, PARAMS).datasets)
    data = {f"data/processed/{each}.h5" for each in read - ENDLESS}
    assert files(stage) == code | data

    def needed(recipe: str) -> bool:
        """Whether the experiment cannot be read without this recipe."""
        without = {key: value for key, value in TREE["recipes"].items() if key != recipe}
        try:
            with_recipes(TREE["experiments"][name], without)
        except ConfigError:
            return True
        return False

    recipes = {f"recipes.{each}" for each in TREE["recipes"] if needed(each)}
    settings = {f"datasets.{each}" for each in read & ENDLESS}
    assert parameters(stage) == {f"experiments.{name}"} | recipes | settings


def test_every_recipe_is_used() -> None:
    used = {r for e in TREE["experiments"].values() for r in used_recipes(e, TREE["recipes"])}
    assert used == set(TREE["recipes"])


def test_data_are_cached_and_results_are_left_to_git(stages: dict[str, PipelineStage]) -> None:
    for name, stage in stages.items():
        assert {out.use_cache for out in stage.outs} == {name.startswith("prepare@")}
    assert "metrics/demo.json" in outputs(stages["experiment@demo"])


def test_dvc_does_not_delete_data_that_only_the_user_has(
    stages: dict[str, PipelineStage],
) -> None:
    for name, stage in stages.items():
        if not name.startswith("experiment@"):
            assert all(out.persist for out in stage.outs)


def test_a_small_pipeline(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(SMALL)
    written = yaml.safe_load(dvc_yaml(tmp_path / "params.yaml"))["stages"]
    assert written["prepare"]["foreach"] == {
        "balls": {"raw": "sa3d/data/sources/shapes"},
        "parts": {"raw": "${datasets.parts.root}"},
    }
    assert written["provided"]["foreach"] == ["scans"]
    checked = written["provided"]["do"]
    assert checked["cmd"] == ends_with_dvc("python -m sa3d data check ${item}")
    # data that only the user has: DVC neither deletes nor caches them
    assert checked["outs"] == [{"data/processed/${item}.h5": {"cache": False, "persist": True}}]
    assert written["experiment"]["foreach"] == {
        "first": {
            "inputs": ["data/processed/balls.h5", "data/processed/parts.h5"],
            "params": ["experiments.first", "recipes.quick", "recipes.shared"],
        },
        "second": {
            "inputs": ["data/processed/scans.h5", "given/model"],
            "params": ["experiments.second", "experiments.second", "experiments.second"],
        },
    }


def ends_with_dvc(command: str) -> str:
    """``exec``: DVC itself, not a shell, is the parent whose death the kernel tells of."""
    return f"exec python flows/parent_death_signal.py SIGTERM {command}"


def test_whatever_takes_long_ends_with_dvc(stages: dict[str, PipelineStage]) -> None:
    assert stages["prepare@shapes"].cmd == ends_with_dvc(
        "python -m sa3d data prepare shapes --or-absent"
    )
    commands = stages["experiment@demo"].cmd
    assert isinstance(commands, list)
    assert commands[1] == ends_with_dvc("python -m flows.experiment demo --out reports/demo")


@pytest.mark.parametrize(
    ("where", "code"),
    [
        ("sa3d.data.sources.shapes.source:prepare", "sa3d/data/sources/shapes"),
        ("sa3d.data.sources.shapes:prepare", "sa3d/data/sources/shapes"),
        ("sa3d.data.split:prepare", "sa3d/data/split.py"),  # a module beside others
        ("flows.plan:prepare", "flows/plan.py"),  # elsewhere in the repository
        ("os:prepare", "sa3d/registry.py"),  # installed
    ],
)
def test_generated_data_depend_on_the_code_that_the_registry_names(
    where: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered = registry.SOURCES["shapes"]
    monkeypatch.setitem(registry.SOURCES, "shapes", registered._replace(where=where))
    (tmp_path / "params.yaml").write_text(SMALL)
    written = yaml.safe_load(dvc_yaml(tmp_path / "params.yaml"))["stages"]
    assert written["prepare"]["foreach"]["balls"] == {"raw": code}
    assert (ROOT / code).exists()


def test_check_refuses_a_file_that_no_longer_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(SMALL)
    assert command() == 0
    assert command("--check") == 0
    Path("params.yaml").write_text(SMALL.replace("mask_ratio: 0.5", "mask_ratio: 0.6"))
    assert command("--check") == 0  # a value alone changes no dependency
    Path("params.yaml").write_text(SMALL.replace("name: scans", "name: balls"))
    before = Path("dvc.yaml").read_text()
    assert command("--check") == 2
    assert capsys.readouterr().err == (
        "sa3d: dvc.yaml does not fit params.yaml; write it again: python -m flows.dvc_pipeline\n"
    )
    assert Path("dvc.yaml").read_text() == before


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("first:", "first.one:", "experiments.first.one: DVC takes only letters"),
        ("{recipe: shared, ", "{recipe: shard, ", "no recipe 'shard' (did you mean 'shared'?)"),
        (
            "{checkpoint: given/model}}\n"
            "    evaluate: [{task: svm, data: {name: scans, points: 64}}]",
            "{scratch: true}}",
            "experiments.second neither pre-trains nor evaluates anything",
        ),
    ],
)
def test_what_dvc_yaml_cannot_be_made_from(
    tmp_path: Path,
    old: str,
    new: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert old in SMALL
    Path("params.yaml").write_text(SMALL.replace(old, new))
    assert command() == 2
    assert said in capsys.readouterr().err
    assert not Path("dvc.yaml").exists()


# -- params.yaml under `dvc exp run -S`


def changed_lines(tmp_path: Path, *overrides: str) -> list[str]:
    """What DVC's ``-S`` changes in params.yaml; the changed file is left in ``tmp_path``."""
    copy = tmp_path / "params.yaml"
    copy.write_text(PARAMS.read_text())
    apply_overrides(copy, list(overrides))
    lines = difflib.ndiff(PARAMS.read_text().splitlines(), copy.read_text().splitlines())
    return [f"{line[0]} {line[2:].strip()}" for line in lines if line[0] in "+-"]


def test_params_yaml_is_written_as_dvc_writes_it(tmp_path: Path) -> None:
    copy = tmp_path / "params.yaml"
    copy.write_text(PARAMS.read_text())
    with modify_yaml(copy):
        pass
    assert copy.read_text() == PARAMS.read_text()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_usual_settings_of_every_experiment_change_one_line_each(name: str, tmp_path: Path) -> None:
    pretrain = TREE["experiments"][name]["pretrain"]
    mask = "mask_ratio" if "mask_ratio" in pretrain else "masked"
    values = {
        mask: 0.5 if mask == "mask_ratio" else 40,
        "epochs": pretrain["epochs"] - 1,
        "batch_size": pretrain["batch_size"] + 8,
        "lr": 2 * pretrain["lr"],
    }
    keys = {f"experiments.{name}.pretrain.{key}": value for key, value in values.items()}
    changes = changed_lines(tmp_path, *(f"{key}={value}" for key, value in keys.items()))
    expected = [
        line
        for key, value in values.items()
        for line in (f"- {key}: {pretrain[key]}", f"+ {key}: {value}")
    ]
    assert sorted(changes) == sorted(expected)
    config = load_experiment(name, tmp_path / "params.yaml")
    method = config.methods[config.reference]  # another variant may have its own number of epochs
    assert {key: getattr(method, key) for key in values} == values


@pytest.mark.parametrize(
    ("override", "changes"),
    [
        ("experiments.demo.model.dim=192", ["- dim: 96", "+ dim: 192"]),
        ("experiments.demo.variants.sa3df.gc_depth=2", ["- gc_depth: 3", "+ gc_depth: 2"]),
        ("experiments.kicad.seeds=[0,1]", ["+ - 1"]),
        ("recipes.small-svm.settings.folds=5", ["- folds: 3", "+ folds: 5"]),
        ("datasets.kicad.root=/models", ["- root: data/raw/kicad", "+ root: /models"]),
        # not in the experiment but in a recipe that it uses: added, with Hydra's two plus signs
        ("++experiments.demo.variants.sa3df.switch_epoch=4", ["+ switch_epoch: 4"]),
        ("++experiments.demo.evaluate.0.settings.folds=5", ["+ settings:", "+ folds: 5"]),
    ],
)
def test_other_settings(override: str, changes: list[str], tmp_path: Path) -> None:
    assert changed_lines(tmp_path, override) == changes


def test_an_added_value_wins_over_the_recipe_for_this_experiment_alone(tmp_path: Path) -> None:
    changed_lines(
        tmp_path,
        "++experiments.demo.evaluate.0.settings.folds=5",
        "++experiments.demo.variants.sa3df.switch_epoch=4",
    )
    changed = load_experiment("demo", tmp_path / "params.yaml").model_dump()
    before = load_experiment("demo", PARAMS).model_dump()
    svm, sa3df = before["evaluate"][0]["settings"], before["variants"]["sa3df"]
    assert (svm["folds"], sa3df["switch_epoch"]) == (3, 2)
    svm["folds"], sa3df["switch_epoch"] = 5, 4
    assert changed == before
    # kicad uses the same recipes
    assert load_experiment("kicad", tmp_path / "params.yaml") == load_experiment("kicad", PARAMS)
