"""The real thing, tiny: ``dvc repro`` takes generated clouds to registered models and a report."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sa3d.tracking import mlflow_store
from tests.flows.conftest import PARAMS

ROOT = Path(__file__).resolve().parents[2]
PARTS = (
    "sa3d",
    "flows",
    "extensions",
    "data",
    "docker",
    "metrics/README.md",
    ".dvc/config",
    ".dvcignore",
    ".gitignore",
)
RUNS = {"sa3d/pretrain": 2, "sa3d/svm": 3, "sa3d/classify": 3, "sa3d/experiments": 1}
DEMO = PARAMS.replace("  tiny:", "  demo:")
TUNING = "settings: {epochs: 2, batch_size: 16, lr: 1.0e-3}"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git and DVC repository with the project's code and a tiny experiment called demo."""
    for part in PARTS:
        source, target = ROOT / part, tmp_path / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            unwanted = shutil.ignore_patterns(
                "__pycache__", "build", "*.egg-info", "processed", "*.deb"
            )
            shutil.copytree(source, target, ignore=unwanted)
        else:
            shutil.copy2(source, target)
    (tmp_path / "params.yaml").write_text(DEMO)
    subprocess.run([sys.executable, "-m", "flows.dvc_pipeline"], cwd=tmp_path, check=True)
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "begin"]):
        me = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
        subprocess.run(["git", *me, *words], cwd=tmp_path, check=True)
    return tmp_path


def repro(folder: Path) -> tuple[int, str]:
    dropped = ("DVC_ROOT", "SA3D_ROOT", "SA3D_WORK", "MLFLOW_TRACKING_URI", "PREFECT_API_URL")
    env = {k: v for k, v in os.environ.items() if k not in (*dropped, "PREFECT_HOME")}
    own = folder.with_name(f"{folder.name}-tmp")  # beside the checkout, which stays clean
    own.mkdir(exist_ok=True)
    env["TMPDIR"] = str(own)  # locks of cores of its own: tests run side by side
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    env["DVC_SITE_CACHE_DIR"] = str(folder / ".dvc" / "tmp" / "site")
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "experiment@demo"],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def results_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "reports" / "demo" / "results.json").read_text())
    return found


def states(results: dict[str, Any], task: str) -> set[str]:
    return {node["status"] for name, node in results["nodes"].items() if name.startswith(task)}


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_one_command_from_clouds_to_registered_models_and_a_report(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = repro(checkout)
    assert code == 0, said
    results = results_of(checkout)
    assert states(results, "") == {"finished"}
    assert results["command"] == "dvc repro experiment@demo"
    assert 0 < results["compute_seconds"] < 2 * results["wall_seconds"]
    # twice chance of 16 classes; measured: 0.29
    assert results["nodes"]["svm-shapes-sa3df-s3"]["metrics"]["test/acc"] > 2 / 16
    assert (checkout / "reports" / "demo" / "report.html").stat().st_size > 10_000
    dirty = subprocess.run(
        ["git", "status", "--porcelain"], cwd=checkout, capture_output=True, text=True, check=True
    )
    assert {line[3:] for line in dirty.stdout.splitlines()} == {"dvc.lock", "metrics/demo.json"}

    monkeypatch.setenv("SA3D_ROOT", str(checkout))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    opened = mlflow_store.client()
    for experiment, count in RUNS.items():
        found = opened.get_experiment_by_name(experiment)
        assert found is not None
        runs = opened.search_runs([found.experiment_id])
        assert len(runs) == count
        for each in runs:
            assert each.info.status == "FINISHED"
            assert each.data.params["model.groups"] == "8"
            tags = each.data.tags
            assert tags["pipeline_id"] == results["lineage"]["pipeline_id"]
            assert tags["prefect.flow_run_id"] == results["lineage"]["prefect_flow_run"]
    for variant in ("sa3df", "random-masks"):
        version = opened.get_model_version_by_alias(f"sa3d-demo-{variant}", "candidate")
        node = results["nodes"][f"pretrain-shapes-{variant}-s3"]
        assert version.run_id == node["mlflow_run_id"]
        assert version.tags["fingerprint"] == node["fingerprint"]

    # nothing changed: nothing runs
    written = (checkout / "reports" / "demo" / "results.json").stat().st_mtime_ns
    code, said = repro(checkout)
    assert code == 0, said
    assert (checkout / "reports" / "demo" / "results.json").stat().st_mtime_ns == written

    # fine-tuning that cannot work: the rest is reused, the exit says so
    params = checkout / "params.yaml"
    good = params.read_text()
    params.write_text(good.replace(TUNING, TUNING.replace("1.0e-3", "1.0e+30")))
    assert params.read_text() != good
    code, said = repro(checkout)
    assert code != 0
    broken = results_of(checkout)
    assert states(broken, "classify") == {"failed"}, said
    assert states(broken, "svm") == states(broken, "pretrain") == {"reused"}

    # mended: only what failed would run, and that is already there from before
    params.write_text(good)
    code, said = repro(checkout)
    assert code == 0, said
    again = results_of(checkout)
    assert states(again, "pretrain") | states(again, "svm") | states(again, "classify") == {
        "reused"
    }
    for name, node in again["nodes"].items():
        assert node["metrics"] == results["nodes"][name]["metrics"]
    version = opened.get_model_version_by_alias("sa3d-demo-sa3df", "candidate")
    assert str(version.version) == "1"
