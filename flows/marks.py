"""Labels that say which process makes a flow run, so that one whose process died is found."""

from __future__ import annotations

import os
import socket
from typing import Final

import httpx
from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.logging import get_run_logger

from sa3d.utils.processes import identity

HOST: Final = "sa3d.host"
PROCESS: Final = "sa3d.process"
WORKER: Final = "sa3d.worker"


def mark() -> None:
    """Label the current flow run with this host, this process and its worker."""
    labels: dict[str, str | bool | int | float] = {
        HOST: socket.gethostname(),
        PROCESS: identity(os.getpid()) or "",
    }
    worker = os.environ.get("PREFECT__WORKER_NAME")
    if worker:
        labels[WORKER] = worker
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run_labels(runtime.flow_run.id, labels)
    except httpx.HTTPError as error:
        get_run_logger().warning("this run could not be labelled with its process: %s", error)
