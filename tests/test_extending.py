"""The worked example of docs/extending.md, run from the text of the document."""

import ast
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import sa3d.masking
from sa3d import components, models
from sa3d.engine.types import Progress
from sa3d.errors import ConfigError
from sa3d.params import load_experiment

TEXT = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
SMALL = ["model.dim=24", "model.heads=3", "model.depth=1", "model.decoder_depth=1"]


def block_after(heading: str) -> str:
    found = re.search(rf"\*\*{heading}\*\*.*?```\w+\n(.*?)```", TEXT, re.DOTALL)
    assert found, heading
    return found[1]


@pytest.fixture
def _example_installed(tmp_path, monkeypatch):
    """The document's file where it says it belongs, and its line in the registry."""
    path = re.search(r"\*\*The file\*\*, `sa3d/masking/(\w+\.py)`", TEXT)
    assert path
    (tmp_path / path[1]).write_text(block_after("The file"))
    monkeypatch.setattr(sa3d.masking, "__path__", [*sa3d.masking.__path__, str(tmp_path)])
    ((name, where),) = ast.literal_eval("{" + block_after("The line") + "}").items()
    monkeypatch.setitem(components.MASKS, name, where)
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


def test_without_the_line_the_name_is_refused():
    with pytest.raises(ConfigError, match="unknown mask strategy 'side'"):
        load_experiment("demo", overrides=["pretrain.mask=side"])


def test_every_registry_of_the_table_exists():
    named = re.findall(r"\| `([A-Z]+)` \|", TEXT)
    assert named == ["BACKBONES", "MASKS", "DATASETS", "TASKS"]
    assert all(isinstance(getattr(components, name), dict) for name in named)
