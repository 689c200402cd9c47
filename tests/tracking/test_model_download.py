"""Registered models brought to this disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sa3d.errors import CheckpointError, UserError
from sa3d.tracking import mlflow_store
from sa3d.tracking.model_download import download


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A registry with one model of two versions, the first of which is the champion."""
    monkeypatch.setenv("SA3D_ROOT", str(tmp_path))
    for name in ("SA3D_WORK", "MLFLOW_TRACKING_URI", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    opened = mlflow_store.client()
    opened.create_registered_model("sa3d-demo-sa3df")
    for number in (1, 2):
        folder = tmp_path / f"registered-{number}" / "data" / "model"
        folder.mkdir(parents=True)
        (folder / "model.json").write_text(json.dumps({"sha256": f"digest {number}"}))
        (folder / "model.safetensors").write_bytes(b"weights %d" % number)
        opened.create_model_version(
            "sa3d-demo-sa3df",
            source=folder.parents[1].as_uri(),
            tags={"sha256": f"digest {number}"},
        )
    opened.set_registered_model_alias("sa3d-demo-sa3df", "champion", "1")
    return opened


@pytest.mark.slow
def test_a_version_is_brought_once_by_alias_or_number(store: Any, tmp_path: Path) -> None:
    name, folder = download("sa3d-demo-sa3df", "champion")
    assert (name, folder) == ("sa3d-demo-sa3df-v1", tmp_path / "work" / "models" / name)
    assert (folder / "model.safetensors").read_bytes() == b"weights 1"
    written = (folder / "model.json").stat().st_mtime_ns
    assert download("sa3d-demo-sa3df", "1") == (name, folder)
    assert (folder / "model.json").stat().st_mtime_ns == written
    other = download("sa3d-demo-sa3df", "2")[1]
    assert (other / "model.safetensors").read_bytes() == b"weights 2"
    store.set_registered_model_alias("sa3d-demo-sa3df", "champion", "2")
    assert download("sa3d-demo-sa3df", "champion")[1] == other


@pytest.mark.slow
def test_what_the_registry_lacks_is_said_with_what_it_has(store: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no registered model 'sa3d-demo'.*did you mean"):
        download("sa3d-demo", "champion")
    with pytest.raises(UserError, match="has no version 9; it has 1, 2"):
        download("sa3d-demo-sa3df", "9")
    with pytest.raises(UserError, match="has no alias 'candidate'; it has champion"):
        download("sa3d-demo-sa3df", "candidate")
    # a version that says other weights than it holds, and one that holds none
    (tmp_path / "registered-2" / "data" / "model" / "model.json").write_text('{"sha256": "other"}')
    with pytest.raises(CheckpointError, match="holds other weights than its tag"):
        download("sa3d-demo-sa3df", "2")
    (tmp_path / "registered-1" / "data" / "model" / "model.json").unlink()
    with pytest.raises(CheckpointError, match="holds no model of this project"):
        download("sa3d-demo-sa3df", "1")
