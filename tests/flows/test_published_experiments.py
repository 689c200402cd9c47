"""The published recipes, every task of them, on small files in the official layouts: one command
from raw files to the table beside the published numbers, with what is absent named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sa3d.config.loading import load_experiment
from tests.data import official_layouts as layouts

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "point-mae": {
        "groups": 8,
        "group_size": 8,
        "dim": 24,
        "depth": 3,
        "heads": 2,
        "decoder_depth": 1,
        "embed_width": 8,
    },
    "point-m2ae": {
        "groups": [32, 16, 8],
        "group_sizes": [8, 4, 4],
        "dims": [8, 16, 24],
        "depths": [1, 1, 1],
        "heads": 2,
        "embed_width": 8,
    },
}
SHORT = {
    "epochs": 1,
    "batch_size": 16,
    "warmup_epochs": 0,
    "cosine_epochs": None,
    "precision": "fp32",
    "votes": 1,
    "folds": 2,
    "switch_epoch": 0,
}


def shrunk(name: str) -> dict[str, Any]:
    """The experiment as params.yaml has it, on a small model and for a single epoch; of the four
    few-shot settings only the first, of the variants two."""
    config = load_experiment(name, ROOT / "params.yaml").model_dump(mode="json")
    model = SMALL[config["model"]["backbone"]]
    config["model"] |= model
    kept = ("sa3df", "random-masks")
    config["variants"] = {each: config["variants"][each] for each in kept}
    for variant in config["variants"].values():
        variant |= {key: value for key, value in SHORT.items() if key in variant}
        variant |= {"gc_depth": 1} if "gc_depth" in variant else {}
        variant |= {"masked": 5, "mask_ratio": None}
    config["pretrain"]["data"]["points"] = 64
    left_out = [e for e in config["evaluate"] if e["task"] == "fewshot"][1:]
    config["evaluate"] = [e for e in config["evaluate"] if e not in left_out]
    for each in config["evaluate"]:
        each["model"] = config["model"]
        each["variants"] = list(kept)
        each["data"]["points"] = 64
        short = SHORT | ({"folds": 10} if each["task"] == "fewshot" else {})
        each["settings"] |= {key: value for key, value in short.items() if key in each["settings"]}
    del config["name"]
    return config


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything but ScanObjectNN, of which a user may not have the files."""
    root = tmp_path_factory.mktemp("published") / "raw"
    layouts.write_shapenet55(root / "ShapeNet55-34", per_class=8)
    layouts.write_modelnet40(root / "modelnet40_normal_resampled", per_class=5)
    layouts.write_modelnet40_hdf5(root / "modelnet40_ply_hdf5_2048")
    layouts.write_modelnet_fewshot(root / "ModelNetFewshot")
    layouts.write_shapenetpart(
        root / "shapenetcore_partanno_segmentation_benchmark_v0_normal", per_class=5
    )
    return root


@pytest.mark.slow
@pytest.mark.stack
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ["point-mae-sa3df", "point-m2ae-sa3df"])
def test_one_command_gives_every_task_whose_data_is_there(
    name: str, raw: Path, tmp_path: Path
) -> None:
    experiment = shrunk(name)
    datasets = yaml.safe_load((ROOT / "params.yaml").read_text())["datasets"]
    used = {each["data"]["name"] for each in experiment["evaluate"]} | {"shapenet55"}
    for each in datasets.values():
        if "root" in each:
            each["root"] = str(raw / Path(each["root"]).name)
        if each["source"] == "modelnet40":
            each["points"] = 100
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump({"datasets": datasets, "experiments": {name: experiment}}))
    dropped = ("DVC_ROOT", "SA3D_WORK", "MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME")
    env = {k: v for k, v in os.environ.items() if k not in dropped}
    env |= {"SA3D_ROOT": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}

    def run(*words: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=tmp_path,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    for each in sorted(used):
        run("sa3d", "data", "prepare", each, "--or-absent", "--quiet")
    said = run("flows.experiment", name)
    results = json.loads((tmp_path / "reports" / name / "results.json").read_text())
    states: dict[str, set[str]] = {}
    for node in results["nodes"].values():
        if node["kind"] == "evaluate":
            states.setdefault(node["spec"]["data"], set()).add(node["status"])
    absent = {each for each in used if each.startswith("scanobjectnn")}
    assert states == {
        **{each: {"finished"} for each in used - absent - {"shapenet55"}},
        **{each: {"skipped"} for each in absent},
    }
    for each in absent:
        assert each in said
    page = (tmp_path / "reports" / name / "report.md").read_text()
    [_, table] = page.split("## Published numbers beside ours")
    verdicts = [line.split("|")[-2] for line in table.split("\n## ")[0].splitlines() if "|" in line]
    assert len(verdicts) > 10
    # our small model is no reproduction, and is not said to be one
    assert all(verdict.startswith(" no verdict: ") for verdict in verdicts[2:])
    run("flows.experiment", name, "--strict", code=1)
