"""The Prefect API a flow reports to: the shared one, or a local one owned by this process.

Prefect's own ephemeral server outlives a killed process and then holds its parent's stdout
open, so that a pipeline around it never ends. The one started here is ended with its owner.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from flows.parent_death_signal import with_parent_death_signal
from sa3d.errors import UserError
from sa3d.tracking import mlflow_store

_START_SECONDS = 300.0  # a cold disk and a new database have taken 75 s, on a busy machine 200
_STOP_SECONDS = 10.0
_LOCK = "starting.lock"  # in Prefect's home: held while a server makes or migrates its database


@dataclass(frozen=True)
class Api:
    """A Prefect API that flows report to.

    Attributes:
        url: of it.
        wait: returns once it answers; meanwhile a process may import what it needs.
    """

    url: str
    wait: Callable[[], None] = field(repr=False)


@contextmanager
def prefect_api(log: Path) -> Iterator[Api]:
    """``PREFECT_API_URL``, checked, or that of a local server for as long as this is open.

    Enter from the main thread and before Prefect is imported: the server lives as long as
    the thread that started it, and Prefect reads the variable once.

    Args:
        log: file that a local server's output is appended to.

    Raises:
        UserError: the configured API does not answer. Of the one that is started, its ``wait``
            says so.
    """
    # Prefect makes only the last folder of the path, and complains about the others
    Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)
    configured = os.environ.get("PREFECT_API_URL")
    if configured:
        if not healthy(f"{configured.rstrip('/')}/health", timeout=5.0):
            raise UserError(
                f"PREFECT_API_URL={configured} does not answer; start that server, or "
                "`unset PREFECT_API_URL` to use a local one"
            )
        yield Api(configured, lambda: None)
        return
    with _local(log) as api:
        os.environ["PREFECT_API_URL"] = api.url
        try:
            yield api
        finally:
            del os.environ["PREFECT_API_URL"]


def home_settings() -> dict[str, str]:
    """The variables with which a local server finds this project's data.

    Prefect pastes ``PREFECT_HOME`` into the URI of its database, which must be named where that
    path does not stand in a URI as it is.
    """
    home = os.environ["PREFECT_HOME"]
    found = {"PREFECT_HOME": home}
    chosen = any(
        os.environ.get(f"PREFECT_{part}_DATABASE_CONNECTION_URL") for part in ("API", "SERVER")
    )
    database = Path(home).expanduser().absolute() / "prefect.db"
    if not chosen and mlflow_store.sqlite_uri(database) != f"sqlite:///{database}":
        found["PREFECT_API_DATABASE_CONNECTION_URL"] = mlflow_store.sqlite_uri(
            database, "aiosqlite"
        )
    return found


@contextmanager
def _local(log: Path) -> Iterator[Api]:
    log.parent.mkdir(parents=True, exist_ok=True)
    # of several servers that make a new database at once, all but one die: "index already exists"
    starting = FileLock(
        Path(os.environ["PREFECT_HOME"]) / _LOCK, thread_local=False, fallback_to_soft=False
    )
    starting.acquire()
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with log.open("ab") as sink:
        process = subprocess.Popen(
            with_parent_death_signal(command, signal.SIGTERM),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env={**os.environ, **home_settings()},
            start_new_session=True,  # Ctrl-C is for the flow, which then still has to report
        )
    try:
        yield Api(url, lambda: _await(process, url, log, starting))
    finally:
        starting.release()
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(process: subprocess.Popen[bytes], url: str, log: Path, starting: FileLock) -> None:
    """Return once the server answers; then the next one may start."""
    end = time.monotonic() + _START_SECONDS
    while not healthy(f"{url}/health", timeout=2.0):
        if process.poll() is not None:
            raise UserError(f"Prefect's local server ended at once; its reason is in {log}")
        if time.monotonic() > end:
            raise UserError(
                f"Prefect's local server was not ready after {_START_SECONDS:.0f} s; see {log}"
            )
        time.sleep(0.1)
    starting.release()


def healthy(address: str, timeout: float) -> bool:
    """Whether a server answers at an address."""
    try:
        with urllib.request.urlopen(address, timeout=timeout) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        return error.code in (401, 403)  # it lives; Prefect's client brings the credentials
    except (OSError, ValueError):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
