"""`sa3d data add`: from a folder to `params.yaml`, `dvc.yaml` and a prepared data set."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh
import yaml
from typer.testing import CliRunner

from sa3d.cli.main import app
from sa3d.config.loading import load_experiment, load_source
from sa3d.data.sources.folder.settings import FolderSource
from sa3d.data.store import open_clouds

PARAMS = """\
# settings of a test
datasets:
  tiny:
    source: shapes
    shapes_per_class: 8
    points: 128

# what runs
experiments:
  tiny:
    model:
      groups: 8
      group_size: 8
      dim: 16
      depth: 2
      heads: 2
      decoder_depth: 1
      embed_width: 8
    pretrain:
      data:
        name: tiny
        points: 64
      mask_ratio: 0.6
      epochs: 1
      batch_size: 64
      lr: 0.001
      warmup_epochs: 0
    variants:
      random-masks:
        method: mae
        mask: random
    reference: random-masks
    evaluate:
    - task: svm
"""
Add = Callable[..., tuple[int, str, str]]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own, with a folder of two classes in it."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "params.yaml").write_text(PARAMS)
    for number, place in enumerate(
        f"{name}/{i}.obj" for name in ("chair", "mug") for i in range(6)
    ):
        path = root / "data" / "raw" / "mine" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(number)
        path.write_text(
            trimesh.creation.box(extents=rng.uniform(0.3, 3.0, 3)).export(file_type="obj")
        )
    for name in ("DVC_ROOT", "SA3D_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def add(project: Path) -> Add:
    def invoke(*words: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, ["data", "add", *words])
        return result.exit_code, result.stdout, result.stderr

    return invoke


def everything(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_a_dry_run_shows_and_changes_nothing(project: Path, add: Add) -> None:
    before = everything(project)
    (project / "data/raw/mine/mug/bad.obj").write_text("v 0 0 0\n")
    status, out, _ = add("data/raw/mine", "--name", "mine", "--dry-run")
    assert status == 0, out
    assert out.splitlines()[0].split() == [
        "class", "files", "unreadable", "train", "test", "families", "formats", "triangles",
    ]  # fmt: skip
    assert "1 of 13 files cannot be read" in out
    assert "up=y: y is taken for the axis that points up in the files; to change it" in out
    assert "unreadable: mug/bad.obj: has 1 point; at least 64 are needed" in out
    (project / "data/raw/mine/mug/bad.obj").unlink()
    assert everything(project) == before


def test_a_folder_becomes_a_data_set_and_an_experiment(project: Path, add: Add) -> None:
    status, out, err = add(
        "data/raw/mine", "--name", "mine", "--like", "tiny", "--set", "points=256", "--set", "up=z"
    )
    assert status == 0, err
    text = (project / "params.yaml").read_text()
    entry = "  mine:\n    source: folder\n    root: data/raw/mine\n    points: 256\n    up: z\n"
    at = PARAMS.index("\n# what runs")
    assert text.startswith(PARAMS[:at] + entry + PARAMS[at:])
    source = load_source("mine")
    assert source == FolderSource(root="data/raw/mine", points=256, up="z")
    experiment = load_experiment("mine")
    assert experiment.datasets == ("mine",)
    assert len(open_clouds(project / "data/processed/mine.h5")) == 12
    dvc = yaml.safe_load((project / "dvc.yaml").read_text())
    assert dvc["stages"]["prepare"]["foreach"]["mine"] == {"raw": "${datasets.mine.root}"}
    assert "data/processed/mine.h5" in dvc["stages"]["experiment"]["foreach"]["mine"]["inputs"]
    assert "dvc repro experiment@mine" in out
    assert "pretrain: batch_size 64 became 4: there are 10 clouds to train on" in out
    checked = subprocess.run(
        [sys.executable, "-m", "flows.dvc_pipeline", "--check"], cwd=project, check=False
    )
    assert checked.returncode == 0


def test_what_is_added_is_as_if_prepared_and_known_to_be_stale_later(
    project: Path, add: Add
) -> None:
    status, _, err = add("data/raw/mine", "--name", "mine", "--set", "points=256")
    assert status == 0, err
    summary = project / "data/processed/mine.json"
    added = summary.read_bytes()
    result = CliRunner().invoke(app, ["data", "prepare", "mine"])
    assert result.exit_code == 0, result.stderr
    assert summary.read_bytes() == added
    next((project / "data/raw/mine/mug").glob("*.obj")).unlink()
    assert "stale: it was made from 12 raw files" in (
        " ".join(CliRunner().invoke(app, ["data", "check", "mine"]).stdout.split())
    )


def test_without_an_experiment_it_says_how_to_use_it(
    project: Path, add: Add, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (project / "data" / "raw" / "mine").rename(elsewhere)
    status, out, err = add(str(elsewhere), "--name", "mine")
    assert status == 0, err
    tree = yaml.safe_load((project / "params.yaml").read_text())
    assert tree["datasets"]["mine"] == {"source": "folder", "root": str(elsewhere)}
    assert list(tree["experiments"]) == ["tiny"]
    assert "data: {name: mine, points: 1024}" in out


def test_files_are_as_they_were_where_dvc_yaml_is_refused(project: Path, add: Add) -> None:
    # another experiment that is refused: nothing that was added is to blame, or to stay
    (project / "params.yaml").write_text(PARAMS + "  broken:\n    reference: nobody\n")
    before = everything(project)
    status, _, err = add("data/raw/mine", "--name", "mine")
    assert status == 2
    assert "dvc.yaml could not be written" in err
    assert "broken" in err
    assert everything(project) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere", "--name", "mine"], "no folder"),
        (["data/raw/mine", "--name", "tiny"], "there is a data set 'tiny'"),
        (["data/raw/mine", "--name", "My Data"], "small letters"),
        (["data/raw/mine", "--name", "true"], "YAML takes that word"),
        (["data/raw/mine", "--name", "mine", "--like", "tinny"], "did you mean 'tiny'"),
        (["data/raw/mine", "--name", "mine", "--set", "pionts=5"], "pionts"),
        (["data/raw/mine", "--name", "mine", "--set", "points=5"], "--set: datasets.mine.points"),
        (["data/raw/mine", "--name", "mine", "--set", "source=kicad"], "adds folders"),
        (["data/raw/mine", "--name", "mine", "--set", "formats=[blend]"], "unknown format"),
    ],
)
def test_one_line_says_what_is_wrong(words: list[str], said: str, project: Path, add: Add) -> None:
    before = everything(project)
    status, _, err = add(*words)
    assert status == 2
    assert said in err
    assert err.startswith("sa3d: ")
    assert everything(project) == before


def test_a_file_that_is_there_is_not_overwritten(project: Path, add: Add) -> None:
    taken = project / "data" / "processed" / "mine.h5"
    taken.parent.mkdir(parents=True)
    taken.write_bytes(b"somebody's")
    status, _, err = add("data/raw/mine", "--name", "mine")
    assert status == 2
    assert "data/processed/mine.h5 is there already" in err
    assert taken.read_bytes() == b"somebody's"
