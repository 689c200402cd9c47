"""Opening the MLflow store: the same way for tracking and for the registry."""

from __future__ import annotations

import logging
import os
import re
import shlex
import socket
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote

from filelock import FileLock

from sa3d.errors import UserError
from sa3d.registry import TASKS
from sa3d.utils.credentials import hide_mlflow_credentials
from sa3d.utils.loopback import ask_loopback_directly
from sa3d.utils.paths import root
from sa3d.utils.places import check_writable, give_home
from sa3d.utils.processes import lives
from sa3d.utils.telemetry import disable_telemetry

if TYPE_CHECKING:
    from mlflow import MlflowClient

SUMMARIES: Final = "sa3d/experiments"
"""The MLflow experiment with one run a flow."""
OFFLINE: Final = "SA3D_OFFLINE"
_NEEDS_QUOTING = re.compile(r"[%?\x00-\x1f\x7f]")  # what a URI does not hold as it is


def sqlite_uri(path: Path, driver: str | None = None) -> str:
    """The URI of a SQLite database, as SQLAlchemy, MLflow and Prefect read it.

    SQLAlchemy ends the path at the first ``?`` and decodes ``%XX`` in it. MLflow makes the
    folder of every URI that begins with ``sqlite:///``, without decoding: a path that has to be
    quoted is therefore given with the name of the driver, which MLflow leaves alone.

    Args:
        path: of the file.
        driver: one that the reader asks for, such as Prefect's ``aiosqlite``.

    Raises:
        UserError: the path is not valid UTF-8.
    """
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(
            f"the path {os.fsencode(path)!r} is not UTF-8; rename the folder that is not"
        ) from None
    if driver is None and not _NEEDS_QUOTING.search(text):
        return f"sqlite:///{text}"
    return f"sqlite+{driver or 'pysqlite'}:///{quote(text)}"


def sqlite_path(uri: str) -> Path | None:
    """The database file of a SQLite URI, the inverse of :func:`sqlite_uri`.

    Returns:
        An absolute path. None for another store, and for a database that is no plain file
        (``:memory:``, or SQLite's own ``file:`` form).
    """
    scheme, found, rest = uri.partition(":///")
    database = unquote(rest.partition("?")[0])
    if scheme.partition("+")[0] != "sqlite" or not found or not database:
        return None
    if database == ":memory:" or database.startswith("file:"):
        return None
    return Path(database).resolve()


def tracking_uri() -> str:
    """``$MLFLOW_TRACKING_URI``, else the SQLite file under the project's root.

    Raises:
        ConfigError: it is a database's, with a password in it.
    """
    hide_mlflow_credentials()
    ask_loopback_directly()
    give_home()
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(root() / "mlflow.db")


def offline() -> bool:
    """Whether this process and those that it starts record without MLflow (``$SA3D_OFFLINE``).

    Raises:
        UserError: the variable says neither yes nor no.
    """
    said = os.environ.get(OFFLINE, "").lower()
    if said in ("1", "true", "yes"):
        return True
    if said in ("", "0", "false", "no"):
        return False
    raise UserError(f"{OFFLINE}={said}: 1 records without MLflow, 0 or nothing with it")


def go_offline(asked: bool) -> bool:
    """Have this process and those that it starts record without MLflow, if asked to.

    Returns:
        ``asked``, as a command-line option's callback has to.
    """
    if asked:
        os.environ[OFFLINE] = "1"
    return asked


def check_store_writable() -> None:
    """Refuse a store that is a file of this machine, in a folder in which nothing can be made.

    Raises:
        WriteError: with the folder and what moves the store.
    """
    database = None if offline() else sqlite_path(tracking_uri())
    if database is not None:
        check_writable(
            database.parent,
            "MLFLOW_TRACKING_URI (sqlite:////FOLDER/mlflow.db), or do without MLflow (--offline)",
        )


def artifact_location(uri: str) -> str | None:
    """Where a new experiment keeps its files: beside a SQLite store, else the server's choice."""
    database = sqlite_path(uri)
    return (database.parent / "mlartifacts").as_uri() if database else None


def client(uri: str | None = None) -> MlflowClient:
    """A client of the store. Only one process at a time may create a SQLite store.

    Six processes that open a new one at once leave five with "duplicate column name".
    """
    disable_telemetry()
    give_home()
    from mlflow import MlflowClient

    # a new SQLite store would tell of every table it makes, a model of its example
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)

    uri = uri or tracking_uri()
    database = sqlite_path(uri)
    if database is None:
        return MlflowClient(uri, uri)
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(database.with_name(database.name + ".lock"), fallback_to_soft=False):
        opened = MlflowClient(uri, uri)
        opened.search_experiments(max_results=1)  # creates or migrates the tables
    return opened


def preload() -> None:
    """Import MLflow now, while there is time, and not at its first use: it takes over a second."""
    disable_telemetry()
    from mlflow import MlflowClient  # noqa: F401


def experiment_id(opened: MlflowClient, name: str, uri: str) -> str:
    """The experiment's id; created where it is missing, also when two do so at once.

    Raises:
        UserError: it was deleted there. MLflow keeps its name, so that no other can be made.
    """
    from mlflow.exceptions import MlflowException

    found = opened.get_experiment_by_name(name)
    if found is None:
        try:
            return str(opened.create_experiment(name, artifact_location(uri)))
        except MlflowException as error:
            found = opened.get_experiment_by_name(name)
            if found is None:
                raise error
    if found.lifecycle_stage == "deleted":
        raise UserError(
            f"the MLflow experiment '{name}' was deleted at {uri}; restore it with its runs: "
            f"MLFLOW_TRACKING_URI={shlex.quote(uri)} mlflow experiments restore "
            f"--experiment-id {found.experiment_id}"
        )
    return str(found.experiment_id)


def init_store(uri: str | None = None) -> str:
    """Create the store and its experiments once, before anything fans out; end dead runs.

    Returns:
        The tracking URI.

    Raises:
        UserError: when the store cannot be reached, or one of them was deleted there.
    """
    uri = uri or tracking_uri()
    try:
        opened = client(uri)
        names = [*(f"sa3d/{task}" for task in TASKS), SUMMARIES]
        ids = [experiment_id(opened, name, uri) for name in names]
        reap(opened, ids)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"MLflow at {uri} does not answer ({short(error)}); start it, unset "
            "MLFLOW_TRACKING_URI to use a local file, or record without it (--offline)"
        ) from error
    return uri


def end_dead_runs(uri: str) -> list[str]:
    """Mark the dead runs of all experiments, see :func:`reap`; returns their names.

    Raises:
        UserError: the store does not answer.
    """
    try:
        opened = client(uri)
        found = reap(opened, [each.experiment_id for each in opened.search_experiments()])
        return [str(opened.get_run(each).info.run_name) for each in found]
    except Exception as error:
        raise UserError(f"MLflow at {uri} does not answer ({short(error)})") from error


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
        if process is not None and not lives(process):
            opened.set_terminated(run.info.run_id, "KILLED")
            dead.append(str(run.info.run_id))
    return dead


def short(error: BaseException) -> str:
    """An error in a few words, for a message of one line."""
    text = textwrap.shorten(str(error), 160, placeholder=" …")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
