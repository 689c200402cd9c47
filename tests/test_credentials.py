"""A password in an address is moved to where it is not shown."""

from __future__ import annotations

import os

import pytest

from sa3d.errors import ConfigError
from sa3d.tracking import mlflow_store
from sa3d.utils.credentials import hide_mlflow_credentials, hide_prefect_credentials

NAMES = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "PREFECT_API_URL",
    "PREFECT_API_AUTH_STRING",
)


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that it is put back whatever the test sets
        monkeypatch.delenv(name)


def given() -> dict[str, str]:
    return {name: os.environ[name] for name in NAMES if name in os.environ}


def test_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ann:p%40ss%2Fword@host:5000/ml")
    assert mlflow_store.tracking_uri() == "https://host:5000/ml"
    assert given() == {
        "MLFLOW_TRACKING_URI": "https://host:5000/ml",
        "MLFLOW_TRACKING_USERNAME": "ann",
        "MLFLOW_TRACKING_PASSWORD": "p@ss/word",
    }


def test_prefect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://ann:pass:word@[::1]:4200/api")
    hide_prefect_credentials()
    assert given() == {
        "PREFECT_API_URL": "http://[::1]:4200/api",
        "PREFECT_API_AUTH_STRING": "ann:pass:word",
    }


def test_what_is_set_apart_from_the_address_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:old@host")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "new")
    monkeypatch.setenv("PREFECT_API_URL", "http://ann:old@host/api")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "ann:new")
    hide_mlflow_credentials()
    hide_prefect_credentials()
    found = given()
    assert found["MLFLOW_TRACKING_PASSWORD"] == "new"
    assert found["PREFECT_API_AUTH_STRING"] == "ann:new"
    assert "old" not in str(found)


@pytest.mark.parametrize(
    "uri",
    [
        "http://host:5000",
        "sqlite:////data/a@b/mlflow.db",
        "sqlite+pysqlite:///a%3F@b.db",
        "postgresql+psycopg2:///mlflow",
        "postgresql+psycopg2://ann@host/mlflow",
        "databricks",
    ],
)
def test_an_address_without_a_password_is_left_alone(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert mlflow_store.tracking_uri() == uri
    assert given() == {"MLFLOW_TRACKING_URI": uri}


def test_the_password_of_a_database_is_refused_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+psycopg2://ann:secret@host/mlflow")
    with pytest.raises(ConfigError, match="PGPASSWORD") as raised:
        mlflow_store.tracking_uri()
    assert "secret" not in str(raised.value)
    assert "postgresql+psycopg2://host/mlflow" in str(raised.value)
