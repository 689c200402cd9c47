"""The real thing, tiny: generated clouds to a registered model and a report, by one command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sa3d import mlstore
from sa3d.data.prepare import prepare
from sa3d.params import load_source
from tests.flows.conftest import PARAMS

RUNS = {"sa3d/pretrain": 2, "sa3d/svm": 3, "sa3d/classify": 3, "sa3d/experiments": 1}


def run(folder: Path) -> tuple[int, str]:
    dropped = ("DVC_ROOT", "SA3D_WORK", "MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME")
    env = {key: value for key, value in os.environ.items() if key not in dropped}
    done = subprocess.run(
        [sys.executable, "-m", "flows.experiment", "tiny", "--device", "cpu"],
        cwd=folder,
        env={**env, "SA3D_ROOT": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_one_command_from_clouds_to_a_registered_model_and_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.yaml").write_text(PARAMS)
    source = load_source("shapes", tmp_path / "params.yaml")
    prepare("shapes", source, tmp_path / "data" / "processed" / "shapes.h5", quiet=True)
    code, said = run(tmp_path)
    assert code == 0, said

    folder = tmp_path / "reports" / "tiny"
    results = json.loads((folder / "results.json").read_text())
    assert {node["status"] for node in results["nodes"].values()} == {"finished"}
    for name, node in results["nodes"].items():
        if name.startswith(("svm", "classify")):
            assert 0.0 <= node["metrics"]["test/acc"] <= 1.0
    assert (folder / "report.html").stat().st_size > 10_000

    monkeypatch.setenv("SA3D_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    opened = mlstore.client()
    for experiment, count in RUNS.items():
        found = opened.get_experiment_by_name(experiment)
        assert found is not None
        runs = opened.search_runs([found.experiment_id])
        assert len(runs) == count
        for each in runs:
            assert each.info.status == "FINISHED"
            assert each.data.params["pretrain.mask_ratio"] == "0.5"
            tags = each.data.tags
            assert tags["pipeline_id"] == results["lineage"]["pipeline_id"]
            assert tags["prefect.flow_run_id"] == results["lineage"]["prefect_flow_run"]
    for arm in ("method", "baseline"):
        version = opened.get_model_version_by_alias(f"sa3d-tiny-{arm}", "candidate")
        node = results["nodes"][f"pretrain-{arm}"]
        assert version.run_id == node["mlflow_run_id"]
        assert version.tags["fingerprint"] == node["fingerprint"]

    code, said = run(tmp_path)
    assert code == 0, said
    again = json.loads((folder / "results.json").read_text())
    for name, node in again["nodes"].items():
        assert node["status"] == ("finished" if name.startswith("register") else "reused")
        assert node["metrics"] == results["nodes"][name]["metrics"]
    version = opened.get_model_version_by_alias("sa3d-tiny-method", "candidate")
    assert str(version.version) == "1"
