"""The services of docker/compose.yaml as processes of this machine.

Commands, variables and secrets are those of the file; only hosts, ports and paths of the
containers are exchanged for such as this machine has.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
_START_SECONDS = 300.0  # five times what a machine takes that is busy with something else
POSTGRES = Path("/usr/lib/postgresql/15/bin")
"""Debian's PostgreSQL, of the version that compose.yaml names."""


def plain_env() -> dict[str, str]:
    """This environment without settings of servers, and with the project's quiet ones."""
    ours = ("PREFECT_", "MLFLOW_", "AWS_", "PG", "SA3D_", "DVC_")
    env = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    env["PYTHONPATH"] = str(ROOT)
    lines = (DOCKER / "quiet.env").read_text().splitlines()
    pairs = [line.partition("=") for line in lines if "=" in line and not line.startswith("#")]
    return env | {key: value for key, _, value in pairs}


@dataclass(frozen=True)
class Places:
    """Where this machine has what the containers have under fixed names."""

    secrets: Path
    postgres: int
    s3: int
    mlflow: int
    prefect: int

    def translated(self, text: str) -> str:
        """A value of compose.yaml as it is meant here."""
        for name, port in (
            ("s3:7070", self.s3),
            ("prefect:4200", self.prefect),
            ("127.0.0.1:4200", self.prefect),
            ("http://mlflow:5000", self.mlflow),
        ):
            scheme = "http://" if name.startswith("http://") else ""
            text = text.replace(name, f"{scheme}127.0.0.1:{port}")
        text = text.replace("/run/secrets", str(self.secrets))
        return text.replace("/app/docker", str(DOCKER))


def service(name: str, places: Places) -> tuple[list[str], dict[str, str]]:
    """Command and variables of a service, as it is started here."""
    found = COMPOSE["services"][name]
    env = {key: places.translated(value) for key, value in found["environment"].items()}
    changed = {
        "PGHOST": "127.0.0.1",
        "PGPORT": str(places.postgres),
        "PREFECT_SERVER_DATABASE_HOST": "127.0.0.1",
        "PREFECT_SERVER_DATABASE_PORT": str(places.postgres),
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(places.prefect),
    }
    env |= {key: value for key, value in changed.items() if key in env}
    words = [
        word.replace("--host=0.0.0.0", "--host=127.0.0.1").replace(
            "--port=5000", f"--port={places.mlflow}"
        )
        for word in found["command"]
    ]
    return [str(DOCKER / "entrypoint.sh"), *words], env


@contextmanager
def running(
    command: list[str], env: Mapping[str, str], log: Path, cwd: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process with all that it starts, ended together."""
    with log.open("ab") as sink:
        process = subprocess.Popen(
            command, cwd=cwd, env=env, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        for signum in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, signum)
                process.wait(15)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue


@contextmanager
def served(name: str, places: Places, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A service, until its own health check of compose.yaml succeeds and then as long as this."""
    command, env = service(name, places)
    home = {"HOME": str(folder), "PREFECT_HOME": str(folder / f"{name}-home")}
    log = folder / f"{name}.log"
    with running(command, {**plain_env(), **home, **env}, log, folder) as process:
        await_status(process, *health(name, places), log)
        yield process


def health(name: str, places: Places) -> tuple[str, int]:
    """Address and expected HTTP status of a service's health check."""
    *_, url, expected = COMPOSE["services"][name]["healthcheck"]["test"]
    return places.translated(url), int(expected)


def await_status(process: subprocess.Popen[bytes], url: str, expected: int, log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while status(url) != expected:
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < end, log.read_text()[-3000:]
        time.sleep(0.2)


def status(url: str, host: str | None = None, auth: str | None = None) -> int:
    """HTTP status of an address; 0: nobody answers."""
    headers = {key: value for key, value in (("Host", host), ("Authorization", auth)) if value}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=10
        ) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@contextmanager
def postgres(log: Path, port: int, secrets: Path) -> Iterator[None]:
    """PostgreSQL with the users and databases that docker/databases.sh makes.

    Its data lie outside of pytest's folders, which are closed to the server's user: as root it
    would not run.
    """
    with tempfile.TemporaryDirectory(prefix="sa3d-postgres-", ignore_cleanup_errors=True) as place:
        folder = Path(place)
        shutil.copy(secrets / "postgres_password", folder / "password")
        as_user: list[str] = []
        if os.getuid() == 0:
            as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
            for each in (folder, folder / "password"):
                shutil.chown(each, "postgres", "postgres")
        make = [f"{POSTGRES}/initdb", "-D", f"{place}/data", "-U", "postgres", "--no-sync"]
        make += ["--no-instructions", "-A", "scram-sha-256", f"--pwfile={place}/password"]
        subprocess.run([*as_user, *make], check=True, capture_output=True, cwd="/")
        serve = [f"{POSTGRES}/postgres", "-D", f"{place}/data", "-p", str(port), "-k", ""]
        quick = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
        serve += [f"-c{each}" for each in ("listen_addresses=127.0.0.1", *quick)]
        with running([*as_user, *serve], plain_env(), log, Path("/")) as process:
            admin = plain_env() | {
                "PGHOST": "127.0.0.1",
                "PGPORT": str(port),
                "PGPASSWORD": (secrets / "postgres_password").read_text(),
                "PREFECT_DB_PASSWORD_FILE": str(secrets / "prefect_db_password"),
                "MLFLOW_DB_PASSWORD_FILE": str(secrets / "mlflow_db_password"),
            }
            # the health check of compose.yaml
            _, check = COMPOSE["services"]["postgres"]["healthcheck"]["test"]
            end = time.monotonic() + _START_SECONDS
            while subprocess.run(shlex.split(check), env=admin, check=False).returncode:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.1)
            subprocess.run([DOCKER / "databases.sh"], env=admin, check=True)
            yield
