"""The worked example of docs/extending.md, run from the text of the document."""

import ast
import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from mlflow import MlflowClient
from typer.testing import CliRunner

import sa3d.masking
import sa3d.tasks
from flows import plan
from sa3d import models, registry
from sa3d.cli import main as cli
from sa3d.config.loading import load_experiment
from sa3d.engine.types import Progress
from sa3d.errors import ConfigError
from sa3d.models import settings as model_settings
from sa3d.report.comparison import task_rows
from sa3d.report.results import read_experiment
from sa3d.runs.fingerprint import fingerprint
from sa3d.utils.paths import processed, work
from sa3d.viz.explain import load_explain

TEXT = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
MASK, BACKBONE, TASK = re.findall(r"## A new .*?(?=\n## )", TEXT, re.DOTALL)
SMALL = ["model.dim=24", "model.heads=3", "model.depth=1", "model.decoder_depth=1"]


def block_after(heading: str, text: str = MASK) -> str:
    found = re.search(rf"\*\*{heading}\*\*.*?```\w+\n(.*?)```", text, re.DOTALL)
    assert found, heading
    return found[1]


def write_file(text: str, package: ModuleType, tmp_path: Path, monkeypatch) -> None:
    """The file of a section of the document, where ``package`` finds it as its own."""
    room = package.__name__.replace(".", "/")
    path = re.search(rf"\*\*The file\*\*, `{room}/(\w+\.py)`", text)
    assert path
    folder = tmp_path / "written"
    folder.mkdir()
    (folder / path[1]).write_text(block_after("The file", text))
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])


@pytest.fixture
def _example_installed(tmp_path, monkeypatch):
    """The document's file where it says it belongs, and its line in the registry."""
    write_file(MASK, sa3d.masking, tmp_path, monkeypatch)
    ((name, where),) = ast.literal_eval("{" + block_after("The line") + "}").items()
    monkeypatch.setitem(registry.MASKS, name, where)
    yield
    sys.modules.pop(where.partition(":")[0], None)


@pytest.mark.usefixtures("_example_installed")
def test_one_file_and_one_line_make_a_strategy_that_trains():
    (override,) = re.findall(r"--set (\S+)", block_after("A run"))
    config = load_experiment("demo", overrides=[override, *SMALL])
    method = models.build_method(config, "method", models.build_backbone(config.model)).train()
    assert type(method.strategy).__name__ == "SideMask"
    points = torch.randn(4, 128, 3, generator=torch.Generator().manual_seed(0))
    progress = Progress(39, 40, 0, 1, torch.Generator().manual_seed(0))
    out = method.training_step(SimpleNamespace(points=points), progress)
    out["loss"].backward()
    assert out["loss"].isfinite()


@pytest.mark.usefixtures("_example_installed")
def test_the_documents_own_test_passes():
    scope: dict = {}
    exec(block_after("A test"), scope)
    tests = [value for name, value in scope.items() if name.startswith("test_")]
    assert len(tests) == 1
    tests[0]()


@pytest.fixture
def backbone(tiny, tmp_path, monkeypatch):
    """The document's backbone and its settings where they belong, its line; its name."""
    write_file(BACKBONE, models, tmp_path, monkeypatch)
    written: dict = {}
    exec(block_after("The settings", BACKBONE), vars(model_settings), written)
    for name, value in written.items():
        value.model_rebuild(_types_namespace=vars(model_settings))
        monkeypatch.setattr(model_settings, name, value, raising=False)
    line = "{" + block_after("The line", BACKBONE) + "}"
    ((name, entry),) = eval(line, {"Architecture": registry.Architecture}).items()
    monkeypatch.setitem(registry.BACKBONES, name, entry)
    yield name
    sys.modules.pop(entry.where.partition(":")[0], None)


SMALL_BAG = ["model.groups=8", "model.group_size=8", "model.dim=16", "model.heads=2"]


@pytest.mark.usefixtures("one_thread")
def test_one_file_one_class_and_one_line_make_a_backbone(backbone, tiny, tmp_path, monkeypatch):
    """The method, its baseline, every task and the report's pictures, by the command line."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    (override,) = re.findall(r"--set (model\.backbone=\S+)", block_after("A run", BACKBONE))
    words = ["-e", "tiny", "--device", "cpu", "--set", override]
    for setting in SMALL_BAG:
        words += ["--set", setting]
    done = CliRunner().invoke(cli.app, ["pretrain", *words])
    assert done.exit_code == 0, done.output
    (method,) = work().glob("pretrain-method-*")
    protocol = json.loads((method / "result.json").read_text())["protocol"]
    assert (protocol["method"], protocol["point_term"]) == ("sa3df", "ground_truth_grad")
    assert load_explain(method / "explain.npz").rebuilt.shape[2:] == (8, 3)
    for task in registry.downstream():
        done = CliRunner().invoke(cli.app, [task, *words, "--from", str(method)])
        assert done.exit_code == 0, done.output
        result = json.loads(next(work().glob(f"{task}-method-*/result.json")).read_text())
        assert 0 <= result["metrics"]["test/acc"] <= 1


def test_every_parameter_of_the_backbone_trains(backbone):
    overrides = [f"model.backbone={backbone}", *SMALL_BAG]
    config = load_experiment("tiny", overrides=overrides)
    method = models.build_method(config, "method", models.build_backbone(config.model)).train()
    points = torch.randn(4, 128, 3, generator=torch.Generator().manual_seed(0))
    progress = Progress(39, 40, 0, 1, torch.Generator().manual_seed(0))
    method.training_step(SimpleNamespace(points=points), progress)["loss"].backward()
    assert [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None] == []
    with pytest.raises(ConfigError, match="backbone=bag has no model for part segmentation"):
        models.build_segmenter(config.model, 5, 2)


def test_its_settings_are_held_to_their_types(backbone):
    with pytest.raises(
        ConfigError, match=r"unknown key experiments\.tiny\.model\.group_sise \(did"
    ):
        load_experiment("tiny", overrides=["model.backbone=bag", "model.group_sise=3"])
    with pytest.raises(ConfigError, match="greater than 0"):
        load_experiment("tiny", overrides=["model.groups=0", "model.backbone=bag"])
    with pytest.raises(ConfigError, match=r"unknown backbone 'bagg' \(did you mean 'bag'\?\)"):
        load_experiment("tiny", overrides=["model.backbone=bagg"])


@pytest.fixture
def task(tiny, tmp_path, monkeypatch):
    """The document's task where it says it belongs, its line in the registry; its name."""
    write_file(TASK, sa3d.tasks, tmp_path, monkeypatch)
    line = eval("{" + block_after("The line", TASK) + "}", {"Task": registry.Task})
    ((name, entry),) = line.items()
    monkeypatch.setitem(registry.TASKS, name, entry)
    monkeypatch.setattr(cli.app, "registered_commands", [*cli.app.registered_commands])
    cli.add_task(name)
    yield name
    sys.modules.pop(entry.where.partition(":")[0], None)


@pytest.mark.usefixtures("one_thread")
def test_one_file_and_one_line_make_a_task_of_the_flow(task, tiny, tmp_path, monkeypatch):
    """From the plan over the command line to a result and its row in the report."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    config = load_experiment("tiny", overrides=[f"tasks=[{task}]"])
    settings = plan.settle(config)
    nodes = {node.name: node for node in plan.nodes_of(config) if node.kind == "task"}
    assert set(nodes) == {f"{task}-{arm}" for arm in ("method", "baseline", "scratch")}
    node, out = nodes[f"{task}-scratch"], tmp_path / "run"
    words = plan.command(node, settings, out, {}, threads=1)
    assert words[: len(plan.CHILD)] == plan.CHILD
    done = CliRunner().invoke(cli.app, [*words[len(plan.CHILD) :], "--device", "cpu"])
    assert done.exit_code == 0, done.output
    mark = fingerprint(task, config, arm="scratch", clouds=processed("tiny"))
    result = plan.finished(out, mark)
    assert result is not None
    assert result["task"] == task
    assert result["metrics"]["test/acc"] > 1.5 / 16  # chance is one of 16 classes

    store = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert store.get_experiment_by_name(f"sa3d/{task}") is not None
    results = tmp_path / "results.json"
    told = {"status": "finished", "run_dir": str(out)}
    tree = {"experiment": config.model_dump(mode="json"), "nodes": {node.name: told}}
    results.write_text(json.dumps(tree))
    (row,) = task_rows(read_experiment(results))
    assert row.title == registry.TASKS[task].title
    assert [cell.arm for cell in row.finished] == ["scratch"]


def test_help_tells_of_the_task(task):
    done = CliRunner().invoke(cli.app, ["--help"])
    assert f"{task} " in done.output
    assert registry.TASKS[task].help in done.output


def test_without_the_line_the_name_is_refused():
    with pytest.raises(ConfigError, match="unknown mask strategy 'side'"):
        load_experiment("demo", overrides=["pretrain.mask=side"])


def test_every_registry_of_the_table_exists():
    named = re.findall(r"\| `([A-Z]+)` \|", TEXT)
    assert named == ["BACKBONES", "MASKS", "DATASETS", "TASKS"]
    assert all(isinstance(getattr(registry, name), dict) for name in named)
