"""A small MLflow store with registered models and what their evaluations measured."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sa3d.runs.spec import RunSpec
from sa3d.tasks.svm.task import SvmConfig
from sa3d.tracking import keys, mlflow_store

NAME = "sa3d-demo-sa3df"


@pytest.fixture
def registry(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A project of its own with an empty store."""
    for name in ("DVC_ROOT", "SA3D_TAGS", "SA3D_WORK", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SA3D_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    mlflow_store.init_store()
    return Store()


def protocol(**settings: Any) -> str:
    """The tag of a linear SVM on 1024 points."""
    found = SvmConfig(**settings).model_dump(mode="json")
    return json.dumps({"data": {"points": 1024}, "model": {}, "settings": found})


class Store:
    """What a test puts into the store."""

    def __init__(self) -> None:
        self.client = mlflow_store.client()
        self._clock = 0

    def version(self, sha256: str, seed: int = 0, training: str = "t1", **tags: str) -> str:
        """Register weights; the number of the version."""
        from mlflow import tracking
        from mlflow.exceptions import MlflowException

        tracking.set_tracking_uri(mlflow_store.tracking_uri())
        with contextlib.suppress(MlflowException):  # it is there already
            self.client.create_registered_model(NAME)
        place = self.client.get_experiment_by_name("sa3d/pretrain")
        run = self.client.create_run(place.experiment_id)
        logged = self.client.create_logged_model(
            place.experiment_id, name=NAME, source_run_id=run.info.run_id
        )
        self.client.finalize_logged_model(logged.model_id, "READY")
        own = {
            keys.SHA256: sha256,
            keys.TRAINING: training,
            "seed": str(seed),
            "experiment": "demo",
        }
        found = self.client.create_model_version(
            NAME,
            source=f"models:/{logged.model_id}",
            run_id=run.info.run_id,
            tags=own | tags,
            model_id=logged.model_id,
        )
        return str(found.version)

    def candidate(self, sha256: str, **more: Any) -> str:
        """Register weights as the candidate."""
        number = self.version(sha256, **more)
        self.client.set_registered_model_alias(NAME, keys.CANDIDATE, number)
        return number

    def evaluate(
        self,
        sha256: str,
        value: float | None,
        data: str = "shapes",
        seed: int = 0,
        *,
        task: str = "svm",
        label: str = "",
        fold: int | None = None,
        status: str = "FINISHED",
        digest: str = "d1",
        how: str | None = None,
        kernels: str = "cpp",
        code: str = "c1",
    ) -> str:
        """A run of a downstream task on such weights; its id."""
        spec = RunSpec(task, "sa3df", data, seed, fold, label)
        tags = spec.tags() | {
            keys.ENCODER: sha256,
            keys.DATA: digest,
            keys.PROTOCOL: how or protocol(),
            keys.KERNELS: kernels,
            keys.CODE: code,
        }
        place = self.client.get_experiment_by_name(f"sa3d/{task}")
        self._clock += 1000
        run = self.client.create_run(place.experiment_id, start_time=self._clock, tags=tags)
        if value is not None:
            self.client.log_metric(run.info.run_id, "test/acc", value)
        if status != "RUNNING":
            self.client.set_terminated(run.info.run_id, status)
        return str(run.info.run_id)

    def alias(self, alias: str) -> str | None:
        """The version that an alias points to."""
        found = self.client.get_registered_model(NAME).aliases.get(alias)
        return None if found is None else str(found)

    def tags(self, version: str) -> dict[str, str]:
        """All tags of a version."""
        return dict(self.client.get_model_version(NAME, version).tags)
