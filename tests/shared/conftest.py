"""Prefect and MLflow as compose.yaml has them: on PostgreSQL and S3, with passwords."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.live import free_port
from tests.shared.compose import (
    DOCKER,
    POSTGRES,
    Places,
    await_status,
    plain_env,
    postgres,
    running,
    served,
    service,
)

CLIENTS = 3
FIRST = "from sa3d.tracking import mlflow_store; mlflow_store.init_store()"


@dataclass(frozen=True)
class Stack:
    """The running servers."""

    places: Places
    folder: Path
    first_clients: tuple[tuple[int, str], ...]
    """Exit status and words of the clients that were the first ones, all at once."""

    def secret(self, name: str) -> str:
        return secret(self.places, name)

    @property
    def mlflow(self) -> str:
        return f"http://127.0.0.1:{self.places.mlflow}"

    @property
    def prefect(self) -> str:
        return f"http://127.0.0.1:{self.places.prefect}/api"

    def client(self) -> dict[str, str]:
        """The variables of somebody who uses both servers, without keys of S3."""
        return client_of(self.places)

    def s3(self) -> dict[str, str]:
        """The variables of somebody who uses the DVC remote."""
        return {
            "AWS_ACCESS_KEY_ID": self.secret("s3_access_key"),
            "AWS_SECRET_ACCESS_KEY": self.secret("s3_secret_key"),
            "AWS_DEFAULT_REGION": "us-east-1",
        }


def secret(places: Places, name: str) -> str:
    return (places.secrets / name).read_text()


def client_of(places: Places) -> dict[str, str]:
    return {
        **plain_env(),
        "PREFECT_API_URL": f"http://127.0.0.1:{places.prefect}/api",
        "PREFECT_API_AUTH_STRING": secret(places, "prefect_auth_string"),
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{places.mlflow}",
        "MLFLOW_TRACKING_USERNAME": "admin",
        "MLFLOW_TRACKING_PASSWORD": secret(places, "mlflow_admin_password"),
    }


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    """Ports, and secrets as docker/secrets.sh makes them."""
    secrets = tmp_path_factory.mktemp("secrets")
    subprocess.run([DOCKER / "secrets.sh", secrets], check=True, capture_output=True)
    return Places(secrets, *(free_port() for _ in range(4)))


@pytest.fixture(scope="session")
def databases(places: Places, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    """PostgreSQL with empty databases."""
    if not (POSTGRES / "initdb").is_file():
        pytest.skip(f"PostgreSQL is not installed: no {POSTGRES} (Debian: postgresql-15)")
    log = tmp_path_factory.mktemp("postgres") / "log"
    with postgres(log, places.postgres, places.secrets):
        yield places


@pytest.fixture(scope="session")
def stack(databases: Places, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Both servers and S3, each healthy by its own check."""
    folder = tmp_path_factory.mktemp("stack")
    places = databases
    with ExitStack() as open_:
        s3 = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(places.s3)]
        log = folder / "s3.log"
        process = open_.enter_context(running(s3, plain_env(), log, folder))
        await_status(process, f"http://127.0.0.1:{places.s3}/moto-api/", 200, log)
        command, env = service("buckets", places)
        at = DOCKER.parent  # the image's folder
        made = subprocess.run(
            command, env={**plain_env(), **env}, cwd=at, capture_output=True, text=True, check=False
        )
        assert made.returncode == 0, made.stderr
        open_.enter_context(served("prefect", places, folder))
        open_.enter_context(served("mlflow", places, folder))
        yield Stack(places, folder, _first_clients(places, folder))


def _first_clients(places: Places, folder: Path) -> tuple[tuple[int, str], ...]:
    """Several processes that all find the servers new and make MLflow's experiments."""
    begun = [
        subprocess.Popen(
            [sys.executable, "-c", FIRST],
            env=client_of(places),
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(CLIENTS)
    ]
    said = [process.communicate()[0] for process in begun]
    return tuple((process.returncode, text) for process, text in zip(begun, said, strict=True))
