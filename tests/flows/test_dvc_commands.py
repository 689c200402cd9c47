"""DVC's commands on a small copy of the project: what runs, what is left, what is compared.

The experiment itself is replaced by a few lines that write its files (``EXPERIMENT``); what is
tested is dvc.yaml, params.yaml and what git keeps.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from flows import dvc_pipeline
from sa3d.config.obtain import ABSENT_FILE
from sa3d.data.cloud_table import Cloud, CloudTable
from sa3d.data.writing import write_clouds

ROOT = Path(__file__).resolve().parents[2]
PARTS = (
    "sa3d",
    "flows",
    "extensions",
    "docker",
    "data/raw",
    "metrics/README.md",
    "params.yaml",
    "dvc.yaml",
    ".dvc/config",
    ".dvcignore",
    ".gitignore",
)
SHAPES = ("shapes_per_class: 120", "shapes_per_class: 60")  # of the two generated data sets
BEGINNINGS = ("sa3d: ", "WARNING", "ERROR")
EXPERIMENT = '''\
"""Writes the files of an experiment, with its mask ratio for an accuracy."""
import json, sys
from pathlib import Path
from sa3d.config.loading import load_experiment

_, name, _, out = sys.argv
method = next(iter(load_experiment(name).methods.values()))
figures = Path(out) / "figures"
figures.mkdir(parents=True, exist_ok=True)
for file in (*%r, "figures/curves.png"):
    if file != "figures":
        (Path(out) / file).write_text(json.dumps({"svm-shapes": {"acc": method.mask_ratio}}))
'''


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git and DVC repository with small data sets and an experiment that takes no time."""
    folder = tmp_path_factory.mktemp("project")
    unwanted = shutil.ignore_patterns("__pycache__", "build", "*.egg-info", "*.deb", "*.3dshapes")
    for part in PARTS:
        target = folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, target, ignore=unwanted)
        else:
            shutil.copy2(ROOT / part, target)
    params = (folder / "params.yaml").read_text()
    for size in SHAPES:
        assert size in params
        params = params.replace(size, "shapes_per_class: 5")
    (folder / "params.yaml").write_text(params)
    # to try the real thing, leave this line out and make the demo experiment small
    (folder / "flows" / "experiment.py").write_text(EXPERIMENT % (dvc_pipeline.REPORT,))
    run(folder, "git", "init", "-q")
    commit(folder)
    return folder


def run(folder: Path, *words: str, code: int = 0) -> str:
    """What a command says on both streams; it has to leave with ``code``."""
    dropped = ("DVC_ROOT", "SA3D_ROOT", "PYTHONPATH", "GIT_DIR")
    env = {key: value for key, value in os.environ.items() if key not in dropped}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    env |= {"DVC_SITE_CACHE_DIR": str(folder / ".dvc" / "tmp" / "site"), "DVC_NO_ANALYTICS": "1"}
    for who in ("GIT_AUTHOR", "GIT_COMMITTER"):
        env |= {f"{who}_NAME": "test", f"{who}_EMAIL": "test@localhost"}
    done = subprocess.run(
        words,
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def dvc(folder: Path, words: str, code: int = 0) -> str:
    return run(folder, "dvc", *words.split(), code=code)


def commit(folder: Path) -> None:
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-q", "--allow-empty", "-m", "x")


def table(text: str) -> list[list[str]]:
    """The rows of a table that DVC prints."""
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines() if line.strip()]


@pytest.mark.slow
def test_the_commands_that_the_readme_names(project: Path) -> None:
    assert dvc(project, "metrics show") == ""  # nothing ran: nothing to complain of

    named = yaml.safe_load((project / "params.yaml").read_text())
    said = dvc(project, "repro")
    # in any order: DVC sorts only by what depends on what
    assert set(re.findall(r"^Running stage '(.+)':", said, re.M)) == {
        # an endless data set has no file that could be prepared
        *(f"prepare@{name}" for name in named["datasets"] if name != "procedural"),
        *(f"experiment@{name}" for name in named["experiments"]),
    }
    told = {line for line in said.splitlines() if line.startswith(BEGINNINGS)}
    lacking = {
        name: source["root"] for name, source in named["datasets"].items() if "root" in source
    }
    assert told == {
        f"sa3d: no raw data in {root}; {name} is absent, and what needs it is skipped"
        for name, root in lacking.items()
    }
    for name in lacking:
        assert (project / f"data/processed/{name}.h5").read_bytes() == ABSENT_FILE

    # what git sees of it: the record and the headline numbers
    changed = run(project, "git", "status", "--porcelain", "--untracked-files=all").split()
    metrics = sorted(f"metrics/{name}.json" for name in named["experiments"])
    assert [file for file in changed if file != "??"] == ["dvc.lock", *metrics]
    head, *rows = table(dvc(project, "metrics show"))
    assert head == ["Path", "svm-shapes.acc"]
    assert ["metrics/demo.json", "0.6"] in rows
    commit(project)
    assert "Running stage" not in dvc(project, "repro experiment@demo")

    key = "experiments.demo.pretrain.mask_ratio"
    dvc(project, f"exp run -S {key}=0.5 experiment@demo")
    lines = run(project, "git", "diff", "--numstat", "params.yaml")
    assert lines.split() == ["1", "1", "params.yaml"]
    for since in ("HEAD", "HEAD~1"):
        [_, *params] = table(dvc(project, f"params diff {since}"))
        assert params == [["params.yaml", key, "0.6", "0.5"]]
        [_, *metrics] = table(dvc(project, f"metrics diff {since}"))
        assert metrics == [["metrics/demo.json", "svm-shapes.acc", "0.6", "0.5", "-0.1"]]
        commit(project)

    # a value of a recipe, added to the experiment
    said = dvc(project, "exp run -S ++experiments.demo.evaluate.0.settings.folds=5 experiment@demo")
    assert "Running stage 'experiment@demo'" in said
    changed = run(project, "git", "diff", "-U0", "params.yaml").splitlines()
    lines = [re.sub(" +", " ", line) for line in changed if re.match("[-+] ", line)]
    assert lines == ["+ settings:", "+ folds: 5"]
    [_, *params] = table(dvc(project, "params diff"))  # DVC shows a list as a whole
    assert [row[:2] for row in params] == [["params.yaml", "experiments.demo.evaluate"]]
    commit(project)

    # other data: dvc.yaml would not say that the experiment depends on them
    said = dvc(project, "exp run -S experiments.demo.pretrain.data.name=kicad experiment@demo", 255)
    assert "sa3d: dvc.yaml does not fit params.yaml; write it again" in said
    assert "python -m flows.experiment" not in said


@pytest.mark.slow
def test_a_processed_file_that_came_without_raw_data_stays(project: Path) -> None:
    """DVC deletes what a stage makes before the stage runs, unless it is told not to."""
    points = np.random.default_rng(0).normal(size=(2, 8, 3)).astype(np.float32)
    table_of_two = CloudTable(
        ids=["one", "two"],
        labels=np.array([0, 1]),
        split=np.array([0, 0], np.uint8),
        family=np.array([0, 1]),
        class_names=("a", "b"),
        source_hash="f00",
        normalisation="subsample",
    )
    given = project / "data" / "processed" / "kicad.h5"
    write_clouds(given, [Cloud(each) for each in points], table_of_two)
    before = given.read_bytes()
    said = dvc(project, "repro prepare@kicad")
    assert "data/processed/kicad.h5, which is there, is used as it is" in said
    assert given.read_bytes() == before
