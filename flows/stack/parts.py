"""What the stack consists of: each part's command, environment, address and log."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flows.resources import SIDE_BY_SIDE, Resources, visible_gpus
from flows.server import home_settings
from flows.stack.processes import TOKEN, mark
from flows.stack.record import MLFLOW, PREFECT, Stack
from sa3d.tracking import mlflow_store
from sa3d.utils import paths

ORCHESTRATOR: Final = "orchestrator"
GPU: Final = "gpu"
POOLS: Final = (ORCHESTRATOR, GPU)
_MOST_CPU_JOBS = 4  # more would leave a small share of the cores to each
_SET_BY_USER = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "DVC_ROOT", "PREFECT_PROFILE")


@dataclass(frozen=True)
class Plan:
    """A part that is to be started.

    Attributes:
        name: of the part.
        command: its words.
        env: variables beside those of every part.
        address: where it will be reached; empty for a worker.
        health: path below the address that answers once it is ready.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    address: str = ""
    health: str = ""

    @property
    def log(self) -> Path:
        """File that its output is appended to."""
        return paths.root() / ".local" / f"{self.name.replace(' ', '-')}.log"


def servers(stack: Stack) -> list[Plan]:
    """Prefect's server and MLflow's, on this machine alone."""
    return [_prefect(stack), _mlflow(stack)]


def workers(stack: Stack) -> list[Plan]:
    """One worker a GPU; without GPUs one for the processor; and one for the flows themselves.

    A pool of another type than ``process`` has workers of its own, on machines of its own.
    """
    found = [_worker(ORCHESTRATOR, ORCHESTRATOR)]
    if stack.pool_type != "process":
        return found
    gpus = visible_gpus()
    if gpus:
        share = {SIDE_BY_SIDE: str(len(gpus))}
        for gpu in gpus:
            name = f"gpu-{gpu}"
            found.append(_worker(name, GPU, 1, {"CUDA_VISIBLE_DEVICES": gpu, **share}))
    else:
        jobs = Resources("cpu", _MOST_CPU_JOBS).count
        env = {"CUDA_VISIBLE_DEVICES": "", SIDE_BY_SIDE: str(jobs)}
        found.append(_worker("cpu", GPU, jobs, env))
    return found


def environment(stack: Stack, name: str) -> dict[str, str]:
    """The environment of a part: this process's, at the servers of the stack."""
    kept = {key: value for key, value in os.environ.items() if key not in _SET_BY_USER}
    return kept | {
        **home_settings(),
        TOKEN: mark(stack.token, name),
        "PREFECT_API_URL": f"{stack.address(PREFECT)}/api",
        "MLFLOW_TRACKING_URI": stack.address(MLFLOW),
        "SA3D_ROOT": str(paths.root()),
    }


def store() -> str:
    """MLflow's database: the one that is used without the stack, too."""
    return mlflow_store.sqlite_uri(paths.root() / "mlflow.db")


def _prefect(stack: Stack) -> Plan:
    address, port = stack.address(PREFECT), stack.ports[PREFECT]
    origins = f"{address},http://localhost:{port}"
    command = [sys.executable, "-m", "prefect", "server", "start"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    # pages of other origins may not ask the API by a visitor's browser
    env = {"PREFECT_SERVER_CORS_ALLOWED_ORIGINS": origins}
    return Plan(PREFECT, command, env, address, "/api/health")


def _mlflow(stack: Stack) -> Plan:
    location = mlflow_store.artifact_location(store())
    assert location is not None, "the store is a file"
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(stack.ports[MLFLOW])]
    # files are found by their place, so that they are there with and without the server
    command += ["--backend-store-uri", store(), "--default-artifact-root", location]
    command += ["--artifacts-destination", str(paths.root() / "mlartifacts")]
    return Plan(MLFLOW, command, {}, stack.address(MLFLOW), "/health")


def _worker(
    name: str, pool: str, limit: int | None = None, env: Mapping[str, str] | None = None
) -> Plan:
    command = [sys.executable, "-m", "prefect", "worker", "start", "--type", "process"]
    command += ["--pool", pool, "--name", name]
    if limit is not None:
        command += ["--limit", str(limit)]
    return Plan(f"worker {name}", command, env or {})
