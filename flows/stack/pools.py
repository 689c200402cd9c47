"""What Prefect's server is told: work pools, queues, deployments, and which runs are dead."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType, WorkerStatus
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectAlreadyExists
from prefect.workers.base import BaseWorker

from flows.stack.parts import GPU, POOLS
from sa3d.errors import UserError
from sa3d.utils import paths

QUEUES: Final = {"high": 1, "default": 2}
"""Of every pool, with their priority: 1 goes first."""
DEPLOYMENTS: Final = "prefect.yaml"
AUTOMATION: Final = "runs without a heartbeat have crashed"
# Runs tell every 30 s that they live (quiet.env). A server that was away for some minutes heard
# nothing meanwhile and must not take the living for dead.
SILENT_SECONDS: Final = 300


def make_pools(pool_type: str) -> None:
    """Make the work pools and queues that are missing.

    Args:
        pool_type: of the pool ``gpu``; ``orchestrator`` is always of processes.

    Raises:
        UserError: no such type is installed, or the pool there is of another.
    """
    with get_client(sync_client=True) as client:
        for name in POOLS:
            kind = pool_type if name == GPU else "process"
            _make_pool(client, name, kind)
            _make_queues(client, name)


def deploy(env: Mapping[str, str], log: Path) -> None:
    """Make or renew the deployments of ``prefect.yaml``.

    Args:
        env: environment of the command.
        log: file that its output is written to.

    Raises:
        UserError: one could not be made.
    """
    file = paths.root() / DEPLOYMENTS
    if not file.is_file():
        raise UserError(f"no {file}, which says what is deployed")
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    with log.open("wb") as sink:
        done = subprocess.run(
            [*command, "--prefect-file", str(file)],
            cwd=paths.root(),
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "no output")
        raise UserError(f"{DEPLOYMENTS} could not be deployed: {last} (all of it: {log})")


def online() -> set[str]:
    """Names of the workers that poll a pool of the stack."""
    with get_client(sync_client=True) as client:
        return {
            worker.name
            for pool in POOLS
            for worker in client.read_workers_for_work_pool(pool)
            if worker.status == WorkerStatus.ONLINE
        }


async def install_automation() -> None:
    """Have the server mark runs as crashed that tell nothing of themselves any more."""
    trigger = EventTrigger(
        after={"prefect.flow-run.heartbeat"},
        expect={"prefect.flow-run.*"},
        match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=SILENT_SECONDS),
    )
    message = f"its process has told nothing for {SILENT_SECONDS} s"
    crash = ChangeFlowRunState(state=StateType.CRASHED, message=message)
    wanted = AutomationCore(name=AUTOMATION, trigger=trigger, actions=[crash])
    async with get_client() as client:
        there = await client.read_automations_by_name(AUTOMATION)
        if [automation.trigger for automation in there] == [trigger]:
            return
        for automation in there:
            await client.delete_automation(automation.id)
        await client.create_automation(wanted)


def _make_pool(client: SyncPrefectClient, name: str, kind: str) -> None:
    worker = BaseWorker.get_worker_class_from_type(kind)
    if worker is None:
        known = ", ".join(sorted(BaseWorker.get_all_available_worker_types()))
        raise UserError(
            f"no work pool of type {kind!r}: install prefect-{kind}, or choose of {known}"
        )
    template = worker.get_default_base_job_template()
    try:
        client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=template))
    except ObjectAlreadyExists:
        found = client.read_work_pool(name).type
        if found != kind:
            raise UserError(
                f"the work pool {name} is there, of type {found}, not {kind}; give --pool-type "
                f"{found}, or delete it with `prefect work-pool delete {name}`"
            ) from None


def _make_queues(client: SyncPrefectClient, pool: str) -> None:
    there = {queue.name: queue for queue in client.read_work_queues(work_pool_name=pool)}
    for name, priority in QUEUES.items():
        if name not in there:
            client.create_work_queue(name, priority=priority, work_pool_name=pool)
        elif there[name].priority != priority:
            client.update_work_queue(there[name].id, priority=priority)
