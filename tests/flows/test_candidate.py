"""Registering several seeds of a variant: one of them is the candidate."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sa3d.checkpoints.export import export_model
from sa3d.runs.spec import RunSpec
from sa3d.tracking import mlflow_store, model_registry


def exported(folder: Path, seed: int) -> Path:
    """A run folder whose model is one number."""
    spec = RunSpec("pretrain", "sa3df", "shapes", seed, teacher="work/teacher")
    card = {
        "kind": "pretrain",
        "experiment": "demo",
        "spec": spec.as_json(),
        "fingerprint": f"f{seed}",
        "settings": {},
        "data": {"name": "shapes", "points": 64, "digest": "d1"},
    }
    export_model(folder / "model", {"weight": torch.full((1,), float(seed))}, card)
    return folder


@pytest.mark.slow
def test_only_the_version_that_is_asked_to_becomes_the_candidate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SA3D_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    first, second = (exported(tmp_path / str(seed), seed) for seed in (0, 1))
    found = model_registry.register(first, "demo", "sa3df")
    assert (found["name"], found["version"]) == ("sa3d-demo-sa3df", "1")
    other = model_registry.register(second, "demo", "sa3df", candidate=False)
    assert other["version"] == "2"
    version = mlflow_store.client().get_model_version_by_alias("sa3d-demo-sa3df", "candidate")
    assert str(version.version) == "1"
    wanted = {"task": "pretrain", "variant": "sa3df", "data": "shapes", "seed": "0"}
    wanted |= {"experiment": "demo", "fingerprint": "f0", "data.digest": "d1"}
    wanted |= {"teacher": "work/teacher"}
    assert wanted.items() <= version.tags.items()
