"""What tests with real servers share: free ports, a Prefect server, and its API's answers."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flows import server

_BUSY = 503  # of a SQLite that another request writes to
_TRIES = 30


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def common_prefect(folder: Path) -> Iterator[str]:
    """A Prefect server with its data in ``folder``, started as a flow starts its own; its API."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "_START_SECONDS", 900.0)  # of a busy machine
        patch.setenv("PREFECT_HOME", str(folder))
        patch.delenv("PREFECT_API_URL", raising=False)
        with server.prefect_api(folder / "server.log") as started:
            started.wait()
            yield started.url


def asked(api: str, path: str, body: Any = None) -> Any:
    """An answer of Prefect's API; a POST where there is a body. If SQLite is busy it asks again."""
    request = urllib.request.Request(
        f"{api}/{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    for _ in range(_TRIES):
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != _BUSY:
                raise
        time.sleep(2.0)
    raise AssertionError(f"{path}: the server is busy for a minute")
