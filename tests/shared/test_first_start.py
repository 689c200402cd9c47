"""Servers that find their database new at the same time: one makes its tables, the others end with
an error, and get in when they are started again, as compose's ``restart`` does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.shared.compose import Places, plain_env, service

pytestmark = [
    pytest.mark.slow,
    pytest.mark.stack,
    pytest.mark.timeout(1500),
]
AT_ONCE = 3
# what `mlflow server` does first
OPEN_MLFLOW = """
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
SqlAlchemyStore("postgresql+psycopg2:///first_mlflow", "/nowhere").search_experiments()
"""


def psql(places: Places, database: str, sql: str) -> str:
    return subprocess.run(
        ["psql", "-w", "-tA", "-U", "postgres", "-d", database, "-c", sql],
        env={
            "PATH": "/usr/bin:/bin",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(places.postgres),
            "PGPASSWORD": (places.secrets / "postgres_password").read_text(),
        },
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


@pytest.mark.parametrize("server", ["mlflow", "prefect"])
def test_several_first_starts_at_once(server: str, databases: Places, tmp_path: Path) -> None:
    psql(databases, "postgres", f"CREATE DATABASE first_{server} OWNER {server}")
    [entrypoint, *_], env = service(server, databases)
    env = {**plain_env(), **env, "HOME": str(tmp_path)}
    command = [sys.executable, "-c", OPEN_MLFLOW]
    if server == "prefect":
        env["PREFECT_SERVER_DATABASE_NAME"] = "first_prefect"
        command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]

    def starts(count: int) -> list[int]:
        begun = []
        for number in range(count):
            own = {**env, "PREFECT_HOME": str(tmp_path / f"home-{number}")}
            output = (tmp_path / f"log-{number}").open("ab")
            begun.append(
                subprocess.Popen([entrypoint, *command], env=own, stdout=output, stderr=output)
            )
            output.close()
        return [process.wait() for process in begun]

    assert 0 in starts(AT_ONCE), "nobody got in"
    assert starts(AT_ONCE) == [0] * AT_ONCE, (tmp_path / "log-0").read_text()[-2000:]
    assert psql(databases, f"first_{server}", "SELECT count(*) FROM alembic_version") == "1"
    if server == "mlflow":
        default = "SELECT name, count(*) FROM experiments GROUP BY name"
        assert psql(databases, "first_mlflow", default) == "Default|1"
