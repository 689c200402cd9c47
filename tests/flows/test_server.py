"""The local Prefect server belongs to the process that started it."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from flows.server import prefect_api
from sa3d.errors import UserError

OWNER = """
import sys, time
from pathlib import Path
from flows.server import prefect_api
with prefect_api(Path(sys.argv[1])) as api:
    api.wait()
    print(api.url, flush=True)
    time.sleep(300)
"""


@pytest.mark.slow
def test_the_server_dies_with_an_owner_that_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "deep" / "home"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path / "server.log")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    url = owner.stdout.readline().strip()
    with urllib.request.urlopen(f"{url}/health", timeout=10) as answer:
        assert answer.status == 200
    owner.kill()
    # the server holds no end of its owner's stdout: this would hang otherwise
    owner.communicate(timeout=30)
    end = time.monotonic() + 30
    while answers(url):
        assert time.monotonic() < end, "the server outlived its owner"
        time.sleep(0.2)


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/health", timeout=2).close()
    except OSError:
        return False
    return True


def test_a_configured_api_that_is_dead_is_not_replaced_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with (
        pytest.raises(UserError, match=r"127\.0\.0\.1:9/api does not answer.*unset PREFECT"),
        prefect_api(tmp_path / "log"),
    ):
        pytest.fail("entered without a server")
