"""Opening the MLflow store: the same way for tracking and for the registry."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from sa3d.errors import UserError
from sa3d.registry import TASKS
from sa3d.utils.paths import root
from sa3d.utils.telemetry import disable_telemetry

if TYPE_CHECKING:
    from mlflow import MlflowClient


def tracking_uri() -> str:
    """``$MLFLOW_TRACKING_URI``, else the SQLite file under the project's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root() / 'mlflow.db'}"


def artifact_location(uri: str) -> str | None:
    """Where a new experiment keeps its files: beside a SQLite store, else the server's choice."""
    database = _sqlite_path(uri)
    return (database.parent / "mlartifacts").as_uri() if database else None


def client(uri: str | None = None) -> MlflowClient:
    """A client of the store. Only one process at a time may create a SQLite store.

    Six processes that open a new one at once leave five with "duplicate column name".
    """
    disable_telemetry()
    from mlflow import MlflowClient

    # a new SQLite store would tell of every table it makes, a model of its example
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)

    uri = uri or tracking_uri()
    database = _sqlite_path(uri)
    if database is None:
        return MlflowClient(uri, uri)
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(database.with_name(database.name + ".lock"), fallback_to_soft=False):
        opened = MlflowClient(uri, uri)
        opened.search_experiments(max_results=1)  # creates or migrates the tables
    return opened


def experiment_id(opened: MlflowClient, name: str, uri: str) -> str:
    """The experiment's id; created where it is missing, also when two do so at once."""
    from mlflow.exceptions import MlflowException

    found = opened.get_experiment_by_name(name)
    if found is None:
        try:
            return str(opened.create_experiment(name, artifact_location(uri)))
        except MlflowException as error:
            found = opened.get_experiment_by_name(name)
            if found is None:
                raise error
    return str(found.experiment_id)


def init_store(uri: str | None = None) -> str:
    """Create the store and its experiments once, before anything fans out; end dead runs.

    Returns:
        The tracking URI.

    Raises:
        UserError: when the store cannot be reached.
    """
    uri = uri or tracking_uri()
    try:
        opened = client(uri)
        ids = [experiment_id(opened, f"sa3d/{name}", uri) for name in (*TASKS, "experiments")]
        reap(opened, ids)
    except Exception as error:
        raise UserError(
            f"MLflow at {uri} does not answer ({short(error)}); start it, or unset "
            "MLFLOW_TRACKING_URI to use a local file"
        ) from error
    return uri


def reap(opened: MlflowClient, experiment_ids: list[str]) -> list[str]:
    """Mark runs of this host as KILLED whose process is gone: a SIGKILL leaves them RUNNING.

    Returns:
        The ids of those runs.
    """
    dead = []
    for run in opened.search_runs(
        experiment_ids, f"attributes.status = 'RUNNING' and tags.host = '{socket.gethostname()}'"
    ):
        process = run.data.tags.get("process")
        if process is not None and not _alive(process):
            opened.set_terminated(run.info.run_id, "KILLED")
            dead.append(str(run.info.run_id))
    return dead


def _alive(process: str) -> bool:
    import psutil

    number, _, started = process.partition("@")
    try:
        return f"{psutil.Process(int(number)).create_time():.2f}" == started
    except psutil.NoSuchProcess:
        return False


def _sqlite_path(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")).resolve() if uri.startswith("sqlite:///") else None


def short(error: BaseException) -> str:
    """An error in a few words, for a message of one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}" if text else type(error).__name__
