"""``sa3d`` in the test's own process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sa3d.cli.main import app

Invoke = Callable[..., tuple[int, str, str]]


@pytest.fixture
def invoke(tiny: Path) -> Invoke:
    """``sa3d`` on the tiny experiment: (exit code, stdout, stderr)."""

    def call(*arguments: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, list(arguments))
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    return call
