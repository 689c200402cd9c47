"""The worked examples of docs/extending.md, run from the text of the document."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from numpy.typing import NDArray
from typer.testing import CliRunner

import sa3d.data.readers
import sa3d.masking
import sa3d.tasks
from flows.plan import plan
from sa3d import models, registry
from sa3d.cli import training
from sa3d.cli.main import app
from sa3d.config.experiment import ExperimentConfig
from sa3d.config.loading import load_experiment, load_source
from sa3d.data.loader import Batches
from sa3d.data.prepare import prepare
from sa3d.data.store import TEST, CloudSet, open_clouds
from sa3d.engine.types import Progress
from sa3d.errors import ConfigError
from sa3d.methods.build import build_method
from sa3d.report import write_report
from sa3d.runs.config import runs_of
from sa3d.tasks import evaluation
from sa3d.utils.paths import work
from sa3d.viz.explain import load_explain

TEXT = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
MASK, BACKBONE, TASK, FORMAT = re.findall(r"## A new .*?(?=\n## )", TEXT, re.DOTALL)
SMALL = ["model.dim=24", "model.heads=3", "model.depth=1", "model.decoder_depth=1"]


def block_after(heading: str, text: str) -> str:
    found = re.search(rf"\*\*{heading}\*\*.*?```\w+\n(.*?)```", text, re.DOTALL)
    assert found, heading
    return found[1]


def place(heading: str, text: str) -> Path:
    """Path below ``sa3d/`` that the document gives a file."""
    found = re.search(rf"\*\*{heading}\*\*, `sa3d/([\w/]+\.py)`", text)
    assert found, heading
    return Path(found[1])


def write(
    headings: tuple[str, ...], text: str, package: ModuleType, tmp_path: Path, monkeypatch: Any
) -> None:
    """Files of a section of the document, where ``package`` finds them as its own."""
    room = Path(*package.__name__.split(".")[1:])
    for heading in headings:
        file = tmp_path / "written" / place(heading, text).relative_to(room)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block_after(heading, text))
        if file.parent != tmp_path / "written":
            (file.parent / "__init__.py").touch()
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / "written")])


def add_line(text: str, table: dict[str, Any], monkeypatch: Any) -> str:
    """Put the document's line into a table of the registry; the name it gives."""
    words = {"Component": registry.Component, "Architecture": registry.Architecture}
    ((name, entry),) = eval("{" + block_after("The line", text) + "}", words).items()
    monkeypatch.setitem(table, name, entry)
    return str(name)


def forget(prefix: str) -> None:
    for module in [name for name in sys.modules if name.startswith(prefix)]:
        del sys.modules[module]


def sa3d_(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output
    return done.output


def step(config: ExperimentConfig, variant: str = "sa3df") -> tuple[torch.nn.Module, Any]:
    """A training step at the end of the curriculum, differentiated."""
    settings = config.methods[variant]
    teacher = models.build_backbone(config.model)
    method = build_method(settings, config.model, teacher).train()
    points = torch.randn(4, 128, 3, generator=torch.Generator().manual_seed(0))
    progress = Progress(39, 40, 0, 1, torch.Generator().manual_seed(0))
    out = method.training_step(SimpleNamespace(points=points), progress)
    out["loss"].backward()
    return method, out


# --- a mask strategy -----------------------------------------------------------------------


@pytest.fixture
def mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The document's strategy installed; its name."""
    write(("The file",), MASK, sa3d.masking, tmp_path, monkeypatch)
    yield add_line(MASK, registry.MASKS, monkeypatch)
    forget("sa3d.masking.side")


def test_one_file_and_one_line_make_a_strategy_that_trains(mask: str) -> None:
    (override,) = re.findall(r"--set (\S+)", block_after("A run", MASK))
    config = load_experiment("demo", overrides=[override, *SMALL])
    method, out = step(config)
    assert config.methods["sa3df"].mask.name == mask
    assert type(method.strategy).__name__ == "SideMask"
    assert out["loss"].isfinite()


@pytest.mark.usefixtures("mask")
def test_the_documents_own_test_passes() -> None:
    scope: dict[str, Any] = {}
    exec(block_after("A test", MASK), scope)
    tests = [value for name, value in scope.items() if name.startswith("test_")]
    assert len(tests) == 1
    tests[0]()


def test_without_the_line_the_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown mask strategy 'side'"):
        load_experiment("demo", overrides=["variants.sa3df.mask=side"])


# --- a backbone ----------------------------------------------------------------------------


@pytest.fixture
def backbone(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The document's backbone installed; its name."""
    write(("The settings", "The file"), BACKBONE, models, tmp_path, monkeypatch)
    yield add_line(BACKBONE, registry.BACKBONES, monkeypatch)
    forget("sa3d.models.bag")


SMALL_BAG = ["model.groups=8", "model.group_size=8", "model.dim=16", "model.heads=2"]


@pytest.mark.usefixtures("one_thread", "backbone")
@pytest.mark.slow
def test_files_and_a_line_make_a_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The method, its teacher, every task and the pictures, by the command line."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    (override,) = re.findall(r"--set (model\.backbone=\S+)", block_after("A run", BACKBONE))
    words = ["-e", "tiny", "--device", "cpu", "--set", override]
    for setting in SMALL_BAG:
        words += ["--set", setting]
    sa3d_("pretrain", *words)
    (method,) = work().glob("pretrain-tiny-sa3df-*")
    protocol = json.loads((method / "result.json").read_text())["protocol"]
    assert (protocol["method"], protocol["teacher_decodes"]) == ("sa3df", False)
    assert load_explain(method / "explain.npz").rebuilt.shape[2:] == (8, 3)
    for task in dict.fromkeys(each.task for each in load_experiment("tiny").evaluate):
        sa3d_(task, *words)
        (path,) = work().glob(f"{task}-*tiny-sa3df-*/result.json")
        result = json.loads(path.read_text())
        score = np.load(path.parent / "outcomes.npz")["score"]
        assert len(score) == result["data"]["test"]
        value = result["metrics"][registry.task(task).metric.name]
        assert score.mean() == value
        if task == "svm":  # two epochs of fine-tuning are too few for a claim
            assert value > 2 / 16  # twice chance; measured: 0.22


def test_every_parameter_of_the_backbone_trains(backbone: str) -> None:
    config = load_experiment("tiny", overrides=[f"model.backbone={backbone}", *SMALL_BAG])
    method, _ = step(config)
    assert [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None] == []
    with pytest.raises(ConfigError, match="backbone=bag has no model for part segmentation"):
        models.build_segmenter(config.model, 5, 2)


@pytest.mark.usefixtures("backbone")
def test_its_settings_are_held_to_their_types() -> None:
    with pytest.raises(ConfigError, match=r"unknown key experiments\.tiny\.model\.group_sise \(d"):
        load_experiment("tiny", overrides=["model.backbone=bag", "model.group_sise=3"])
    with pytest.raises(ConfigError, match="greater than 0"):
        load_experiment("tiny", overrides=["model.groups=0", "model.backbone=bag"])
    with pytest.raises(ConfigError, match=r"unknown backbone 'bagg' \(did you mean 'bag'\?\)"):
        load_experiment("tiny", overrides=["model.backbone=bagg"])


# --- a task with folds and a metric that is no accuracy --------------------------------------


@pytest.fixture
def many_tested(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny project with 128 test clouds: k-means with 16 clusters needs more than 32."""
    root = tmp_path / "project"
    root.mkdir()
    given = (tiny / "params.yaml").read_text()
    (root / "params.yaml").write_text(
        given.replace("shapes_per_class: 8", "shapes_per_class: 16").replace(
            "test_fraction: 0.25", "test_fraction: 0.5"
        )
    )
    source = load_source("tiny", root / "params.yaml")
    prepare("tiny", source, root / "data" / "processed" / "tiny.h5", quiet=True)
    monkeypatch.setenv("SA3D_ROOT", str(root))
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The document's task installed; its name."""
    write(("The file",), TASK, sa3d.tasks, tmp_path, monkeypatch)
    name = add_line(TASK, registry.TASKS, monkeypatch)
    monkeypatch.setattr(app, "registered_commands", [])
    training.add_commands(app)
    yield name
    forget("sa3d.tasks.cluster")


def rows_tested(monkeypatch: pytest.MonkeyPatch) -> list[NDArray[np.int64]]:
    """Fills with the rows of the data set that each later run reads."""
    seen: list[NDArray[np.int64]] = []
    real = evaluation.fixed_batches

    def spy(clouds: CloudSet, rows: NDArray[np.int64], *more: Any) -> Batches:
        seen.append(rows)
        return real(clouds, rows, *more)

    monkeypatch.setattr(evaluation, "fixed_batches", spy)
    return seen


def with_task(task: str) -> list[str]:
    return [f"evaluate=[{{task: {task}, settings: {{folds: 2}}}}]"]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.slow
def test_one_file_and_one_line_make_a_task_of_everything(
    task: str, many_tested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its command, its nodes in the flow's graph, its MLflow experiment, its report section."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    config = load_experiment("tiny", overrides=with_task(task))
    runs = [run.spec for run in runs_of(config) if run.spec.task == task]
    names = {f"cluster-tiny-{v}-s1-f{f}" for v in config.variants for f in (0, 1)}
    assert {spec.name for spec in runs} == names
    graph = {node.name: node for node in plan(config).nodes}
    assert names <= set(graph)
    assert "pretrain-tiny-sa3df-s1" in graph["cluster-tiny-sa3df-s1-f0"].needs

    words = ["-e", "tiny", "--device", "cpu", "--set", *with_task(task)]
    sa3d_("pretrain", *words)
    tested = rows_tested(monkeypatch)
    told: dict[str, Any] = {}
    for spec in runs:
        options = ["--variant", spec.variant, "--fold", str(spec.fold)]
        assert "test/ari" in sa3d_(task, *words, *options)
        (folder,) = work().glob(f"{spec.name}-*")
        result = json.loads((folder / "result.json").read_text())
        # random partitions have 0 on average; measured: 0.08 (random weights) to 0.18
        assert result["metrics"]["test/ari"] > 0.05
        told[spec.name] = {
            "kind": "evaluate",
            "spec": spec.as_json(),
            "status": "finished",
            "run_dir": str(folder),
            "metrics": result["metrics"],
            "seconds": result["seconds"],
            "fingerprint": result["fingerprint"],
            "mlflow_run_id": None,
            "mlflow_url": None,
        }
    every = set(open_clouds(many_tested / "data" / "processed" / "tiny.h5").indices(TEST).tolist())
    parts = {spec.name: set(rows.tolist()) for spec, rows in zip(runs, tested, strict=True)}
    for variant in config.variants:
        first, second = (parts[f"cluster-tiny-{variant}-s1-f{fold}"] for fold in (0, 1))
        assert first
        assert not first & second
        assert first | second == every

    store = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    found = store.get_experiment_by_name(f"sa3d/{task}")
    assert found is not None
    assert len(store.search_runs([found.experiment_id])) == len(runs)

    results = tmp_path / "report" / "results.json"
    results.parent.mkdir()
    tree = {"format": 2, "experiment": config.model_dump(mode="json"), "nodes": told, "data": {}}
    results.write_text(json.dumps(tree | {"lineage": {}}))
    page = write_report(results, results.parent).read_text()
    for said in ("Clusters of frozen features", "adjusted Rand index", "disjoint parts"):
        assert said in page
    numbers = json.loads((results.parent / "metrics.json").read_text())
    values = [told[f"cluster-tiny-scratch-s1-f{f}"]["metrics"]["test/ari"] for f in (0, 1)]
    assert values[0] != values[1]
    assert numbers["cluster-tiny"]["scratch"]["mean"] == pytest.approx(sum(values) / 2, abs=1e-5)
    assert numbers["cluster-tiny"]["scratch"]["runs"] == 2


def test_help_tells_of_the_task(task: str) -> None:
    assert re.search(rf"{task} .*{re.escape(registry.task(task).help)}", sa3d_("--help"))
    assert "--fold" in sa3d_(task, "--help")


def test_every_registry_of_the_table_exists() -> None:
    named = re.findall(r"\| `([A-Z]+)` \|", TEXT)
    assert named == ["BACKBONES", "METHODS", "MASKS", "SOURCES", "READERS", "TASKS"]
    assert all(isinstance(getattr(registry, name), dict) for name in named)


def test_lines_of_the_document_are_literal() -> None:
    assert ast.literal_eval("{" + block_after("The line", TASK) + "}") == {
        "cluster": "sa3d.tasks.cluster:TASK"
    }


# --- a file format ---------------------------------------------------------------------------


@pytest.fixture
def file_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The document's reader installed; the suffix it is for."""
    write(("The file",), FORMAT, sa3d.data.readers, tmp_path, monkeypatch)
    yield add_line(FORMAT, registry.READERS, monkeypatch)
    forget("sa3d.data.readers.pts")


@pytest.mark.usefixtures("file_format")
def test_the_format_passes_the_documents_own_test() -> None:
    scope: dict[str, Any] = {}
    exec(block_after("A test", FORMAT), scope)
    (test,) = [value for name, value in scope.items() if name.startswith("test_")]
    test()


def test_a_folder_of_the_format_becomes_a_data_set(file_format: str, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).random((8, 300, 7))
    for number, cloud in enumerate(rows):
        file = tmp_path / "scans" / "ab"[number % 2] / f"part{number}.{file_format}"
        file.parent.mkdir(parents=True, exist_ok=True)
        text = "\n".join(" ".join(map(str, row)) for row in cloud)
        file.write_text(f"{len(cloud)}\n{text}\n")
    words = block_after("A run", FORMAT).split()
    assert words[:4] == ["sa3d", "data", "add", "scans"]
    words[3] = str(tmp_path / "scans")
    shown = sa3d_(*words[1:], "--dry-run")
    assert f"8 {file_format}" in shown
