"""A real MLflow server for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def until(true: Callable[[], bool], seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


@contextmanager
def server(folder: Path, port: int) -> Iterator[Callable[[], None]]:
    """A real MLflow server; yields what kills it."""
    log = (folder / "server.log").open("ab")
    store = f"sqlite:///{folder / 'server.db'}"
    where = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    what = ["--backend-store-uri", store, "--artifacts-destination", str(folder / "served")]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", *where, *what],
        stdout=log,
        stderr=log,
        start_new_session=True,
    )

    def kill() -> None:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def healthy() -> bool:
        assert process.poll() is None, (folder / "server.log").read_text()[-2000:]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return True
        except OSError:
            return False

    try:
        until(healthy)
        yield kill
    finally:
        kill()
        log.close()
