"""A project of its own for every test, with a store of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sa3d.tracking import lineage, mlflow_store


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store with its tables and nothing in them: to make one takes seconds."""
    database = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow_store.client(mlflow_store.sqlite_uri(database))
    return database


@pytest.fixture
def bare_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's root without a store."""
    monkeypatch.setenv("SA3D_ROOT", str(tmp_path))
    for variable in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "SA3D_WORK", mlflow_store.OFFLINE):
        monkeypatch.delenv(variable, raising=False)
    lineage.git.cache_clear()
    return tmp_path


@pytest.fixture
def root(bare_root: Path, empty_store: Path) -> Path:
    """A project's root with an empty store."""
    shutil.copy(empty_store, bare_root / "mlflow.db")
    return bare_root
