"""MLflow's and Prefect's servers on ports that stay, to be killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from sa3d.tracking.mlflow_store import sqlite_uri
from tests.faults.processes import wait_for
from tests.live import free_port


@dataclass
class Server:
    """A server that may be killed and started again.

    Attributes:
        url: of its interface.
        command: its words after ``python -m``.
        health: address that answers once it is up.
        log: file for its output.
        env: of the process.
    """

    url: str
    command: list[str]
    health: str
    log: Path
    env: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self.log.open("ab") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self.command],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
        wait_for(self.answers, 600, f"{self.url}; {self.log}")

    def answers(self) -> bool:
        """Whether it is up."""
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        try:
            with urllib.request.urlopen(self.health, timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        """End it and its children at once."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def mlflow_server(folder: Path, env: dict[str, str]) -> Server:
    """An MLflow server on the store ``mlflow.db`` of a folder."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    words = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--backend-store-uri", sqlite_uri(folder / "mlflow.db")]
    words += ["--artifacts-destination", str(folder / "served")]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return Server(url, words, f"{url}/health", folder / "mlflow-server.log", env | quiet)


def prefect_server(folder: Path, env: dict[str, str]) -> Server:
    """A Prefect server whose data is in a folder of its own."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    words = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    (folder / "prefect").mkdir(exist_ok=True)
    env = {key: value for key, value in env.items() if key != "PREFECT_API_URL"}
    env |= {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    return Server(url, words, f"{url}/health", folder / "prefect-server.log", env)
