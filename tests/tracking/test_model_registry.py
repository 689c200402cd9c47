"""Registered models: found again by their weights, loaded without the checkout."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sa3d.checkpoints.export import export_model
from sa3d.config.loading import load_experiment
from sa3d.data.preprocessing import unit_sphere
from sa3d.errors import CheckpointError, DataError
from sa3d.inference.serving import FeatureModel
from sa3d.methods.build import build_method
from sa3d.runs.config import RunConfig, choose
from sa3d.tracking import mlflow_store, mlflow_sync, model_registry
from sa3d.tracking.tracker import open_tracker

SMALL = ["model.groups=8", "model.group_size=8", "model.dim=24", "model.depth=1", "model.heads=2"]


@pytest.fixture
def run() -> RunConfig:
    """A small pre-training with random masks."""
    config = load_experiment("demo", overrides=[*SMALL, "pretrain.data.points=64"])
    return choose(config, "pretrain", variant="random-masks")


def exported(run_dir: Path, run: RunConfig, seed: int = 0) -> torch.nn.Module:
    """A run folder with a model of random weights; its backbone."""
    torch.manual_seed(seed)
    method = build_method(run.method, run.model)
    card = {
        "kind": "pretrain",
        "experiment": run.experiment,
        "spec": replace(run.spec, seed=seed).as_json(),
        "fingerprint": f"f{seed}",
        "model": run.model.model_dump(mode="json"),
        "settings": run.settings.model_dump(mode="json"),
        "data": {**run.data.model_dump(mode="json"), "digest": "d1"},
        "preprocessing": {"points": run.data.points, "normalisation": "subsample"},
    }
    export_model(run_dir / "model", method.student_state(), card)
    return method.backbone.eval()


TOLD = {
    "experiment": "demo",
    "task": "pretrain",
    "variant": "random-masks",
    "data": "shapes",
    "seed": "0",
    "fingerprint": "f0",
    "data.digest": "d1",
}


def clouds(count: int, points: int = 64) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, points, 3)).astype(np.float32) * 40 + 7


def test_features_are_those_of_the_backbone_on_the_unit_sphere(
    tmp_path: Path, run: RunConfig
) -> None:
    backbone = exported(tmp_path, run)
    given = clouds(3)
    ready = unit_sphere(torch.from_numpy(given))
    with torch.inference_mode():
        wanted = backbone.features(ready).numpy()
    model = FeatureModel(tmp_path / "model")
    np.testing.assert_allclose(model.predict(given), wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.predict(given[0]), wanted[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((2, 64, 4)), r"\(64, 4\), expected \(points, 3\)"),
        (np.zeros(3), r"expected clouds \(B, n, 3\) or \(n, 3\)"),
        (np.zeros((0, 64, 3)), "one cloud or more"),
        (np.full((1, 64, 3), np.nan), "non-finite"),
        (np.ones((1, 64, 3)), "all equal"),
    ],
)
def test_unusable_clouds_are_refused(
    tmp_path: Path, run: RunConfig, given: np.ndarray, message: str
) -> None:
    exported(tmp_path, run)
    with pytest.raises(DataError, match=message):
        FeatureModel(tmp_path / "model").predict(given)


def test_a_model_is_registered_once_and_new_weights_are_a_new_version(
    root: Path, run: RunConfig
) -> None:
    first = root / "work" / "first"
    exported(first, run)
    with open_tracker(first, experiment="sa3d/pretrain", run_name="a", tags={}) as tracker:
        tracker.metrics({"train/loss": 1.0}, 0)
    logged = mlflow_sync.run_of(first)
    assert logged is not None
    found = model_registry.register(first, "demo", "random-masks")
    assert found["name"] == "sa3d-demo-random-masks"
    assert found["version"] == "1"
    assert model_registry.register(first, "demo", "random-masks") == found

    opened = mlflow_store.client()
    assert opened.get_logged_model(found["model_id"]).tags["data.digest"] == "d1"
    version = opened.get_model_version_by_alias("sa3d-demo-random-masks", "candidate")
    assert str(version.version) == "1"
    told = {key: version.tags.get(key) for key in TOLD}
    assert told == TOLD
    assert "teacher" not in version.tags
    assert version.run_id == logged.run_id

    second = root / "work" / "second"  # never reached MLflow: registered all the same
    exported(second, run, seed=1)
    assert model_registry.register(second, "demo", "random-masks")["version"] == "2"
    version = opened.get_model_version_by_alias("sa3d-demo-random-masks", "candidate")
    assert str(version.version) == "2"
    assert version.tags["seed"] == "1"

    third = root / "work" / "third"  # another seed, of which nobody makes the candidate
    exported(third, run, seed=2)
    registered = model_registry.register(third, "demo", "random-masks", candidate=False)
    assert registered["version"] == "3"
    version = opened.get_model_version_by_alias("sa3d-demo-random-masks", "candidate")
    assert str(version.version) == "2"


def test_nothing_is_registered_without_a_model(root: Path) -> None:
    with pytest.raises(CheckpointError, match="no exported model"):
        model_registry.register(root, "demo", "random-masks")


@pytest.mark.slow
def test_two_seeds_are_registered_at_once(root: Path, run: RunConfig) -> None:
    """Both find that the name is not there yet, and both make it."""
    for seed in range(2):
        exported(root / str(seed), run, seed=seed)
    mlflow_store.init_store()
    with ThreadPoolExecutor(2) as pool:
        futures = [
            pool.submit(
                model_registry.register,
                root / str(seed),
                "demo",
                "random-masks",
                candidate=seed == 0,
            )
            for seed in range(2)
        ]
        found = sorted(future.result()["version"] for future in futures)
    assert found == ["1", "2"]
    versions = mlflow_store.client().search_model_versions("name = 'sa3d-demo-random-masks'")
    assert {version.tags["seed"] for version in versions} == {"0", "1"}
    # the seeds of one pre-training have this in common
    assert len({version.tags["training"] for version in versions}) == 1


LOADER = """
import json, sys
import numpy as np
import mlflow, mlflow.pyfunc
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/sa3d-demo-random-masks@candidate")
features = model.predict(np.load(sys.argv[2]))
import point_ops, sa3d
print(json.dumps([features.tolist(), sa3d.__file__, point_ops.__file__]))
"""


@pytest.mark.slow
def test_a_registered_model_runs_on_its_own_code(root: Path, run: RunConfig) -> None:
    exported(root / "run", run)
    model_registry.register(root / "run", "demo", "random-masks")
    given = clouds(2)
    np.save(root / "clouds.npy", given)
    done = subprocess.run(
        [sys.executable, "-c", LOADER, mlflow_store.tracking_uri(), str(root / "clouds.npy")],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    features, *files = json.loads(done.stdout.splitlines()[-1])
    wanted = FeatureModel(root / "run" / "model").predict(given)
    np.testing.assert_allclose(features, wanted, rtol=1e-4, atol=1e-5)
    for file in files:
        assert "/code/" in file, "loaded from the checkout, not from the model"
