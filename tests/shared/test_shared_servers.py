"""The servers of compose.yaml on PostgreSQL and S3: who is let in, and by which name."""

from __future__ import annotations

import base64
import subprocess
import sys

import pytest

from sa3d.registry import TASKS
from tests.shared.compose import DOCKER, service, status
from tests.shared.conftest import CLIENTS, Stack

# one process of several runs them all: the servers are started once
pytestmark = [
    pytest.mark.slow,
    pytest.mark.stack,
    pytest.mark.timeout(1500),
]
EXPERIMENT = "/api/2.0/mlflow/experiments/get?experiment_id=0"


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def ask(stack: Stack, user: str, database: str, sql: str) -> str:
    """What PostgreSQL answers to a user; empty if it refuses."""
    return subprocess.run(
        ["psql", "-w", "-tA", "-U", user, "-d", database, "-c", sql],
        env={
            "PATH": "/usr/bin:/bin",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(stack.places.postgres),
            "PGPASSWORD": stack.secret(f"{user}_db_password"),
        },
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()


def test_without_a_password_there_is_no_way_in(stack: Stack) -> None:
    admin = basic("admin", stack.secret("mlflow_admin_password"))
    assert status(stack.mlflow + EXPERIMENT) == 401
    assert status(stack.mlflow + EXPERIMENT, auth=basic("admin", "guessed")) == 401
    assert status(stack.mlflow + EXPERIMENT, auth=admin) == 200
    for path in ("/admin/version", "/work_pools/anything", "/flow_runs/x-health"):
        assert status(stack.prefect + path) == 401
        assert status(stack.prefect + path, auth=basic("admin", "guessed")) == 401
    user, _, password = stack.secret("prefect_auth_string").partition(":")
    assert status(stack.prefect + "/admin/version", auth=basic(user, password)) == 200


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("mlflow:5000", 200),
        ("localhost:1234", 200),
        ("127.0.0.1:5000", 200),
        ("evil.example", 403),
        ("mlflow.evil.example:5000", 403),
        ("10.0.0.7:5000", 403),
    ],
)
def test_mlflow_answers_to_the_names_that_are_listed(
    stack: Stack, host: str, expected: int
) -> None:
    admin = basic("admin", stack.secret("mlflow_admin_password"))
    assert status(stack.mlflow + EXPERIMENT, host=host, auth=admin) == expected
    assert status(f"{stack.mlflow}/health", host=host) == 200, "which is why it is not asked"


def test_each_server_has_databases_of_its_own(stack: Stack) -> None:
    count = "select count(*) > 5 from information_schema.tables where table_schema = 'public'"
    assert ask(stack, "prefect", "prefect", count) == "t"
    assert ask(stack, "mlflow", "mlflow", count) == "t"
    assert ask(stack, "mlflow", "mlflow_auth", "select username from users") == "admin"
    assert ask(stack, "mlflow", "prefect", "select 1") == ""
    assert ask(stack, "prefect", "mlflow", "select 1") == ""


def test_clients_that_are_the_first_together_all_get_in(stack: Stack) -> None:
    assert stack.first_clients == ((0, ""),) * CLIENTS
    names = "select name, count(*) from experiments where name like 'sa3d/%' group by name"
    made = dict(line.split("|") for line in ask(stack, "mlflow", "mlflow", names).splitlines())
    assert set(made) == {f"sa3d/{name}" for name in (*TASKS, "experiments")}
    assert set(made.values()) == {"1"}


def test_making_the_buckets_again_changes_nothing(stack: Stack) -> None:
    command, env = service("buckets", stack.places)
    again = subprocess.run(
        command,
        env={**stack.client(), **env},
        cwd=DOCKER.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert again.stdout.split("\n")[:2] == ["bucket mlflow is there", "bucket dvc is there"]


def test_the_health_check_of_the_images(stack: Stack) -> None:
    def check(url: str, expected: str) -> int:
        return subprocess.run(
            [sys.executable, DOCKER / "healthcheck.py", url, expected],
            capture_output=True,
            check=False,
        ).returncode

    assert check(f"{stack.prefect}/health", "200") == 0
    assert check(stack.mlflow + EXPERIMENT, "401") == 0
    assert check(stack.mlflow + EXPERIMENT, "200") == 1
    assert check("http://127.0.0.1:9/", "200") == 1
