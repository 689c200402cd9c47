"""docker/entrypoint.sh: secrets from files, then the command."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.shared.compose import DOCKER


def run(*command: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DOCKER / "entrypoint.sh", *command],
        env={"PATH": "/usr/bin:/bin", **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_secret_reaches_the_command_and_its_file_does_not(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a $(b) 'c' \"d\"\n")
    done = run("env", PGPASSWORD_FILE=str(tmp_path / "key"))
    assert "PGPASSWORD=a $(b) 'c' \"d\"" in done.stdout.splitlines()
    assert "PGPASSWORD_FILE" not in done.stdout


def test_other_variables_stay() -> None:
    done = run("env", SSL_CERT_FILE="/nowhere", PGHOST="h")
    assert {"SSL_CERT_FILE=/nowhere", "PGHOST=h"} <= set(done.stdout.splitlines())


@pytest.mark.parametrize("content", [None, ""])
def test_a_missing_or_empty_secret_is_said(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "key").write_text(content)
    done = run("env", PGPASSWORD_FILE=str(tmp_path / "key"))
    assert done.returncode == 2
    assert done.stdout == ""
    assert "docker/secrets.sh" in done.stderr


def test_the_command_takes_the_place_of_the_shell() -> None:
    done = run("sh", "-c", "exit 7")
    assert done.returncode == 7
