"""What a real Prefect server is told: dead runs, cancelled children, the automation, a cancellation
that a flow without a worker notices."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, runtime
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling, Pending, Running, Scheduled
from prefect.tasks import Task

from flows import asking
from flows.asking import Cancellation
from flows.hooks import cancel_children
from flows.marks import HOST, PROCESS
from flows.stack import pools
from flows.stack.reaper import reap
from sa3d.utils.processes import identity

pytestmark = pytest.mark.slow


@flow(name="sleeps")
def sleeps() -> None:
    pass


@pytest.fixture
def client(api: str) -> Iterator[SyncPrefectClient]:
    with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as opened:
        yield opened


def made(
    client: SyncPrefectClient, name: str, state: Any, parent: UUID | None = None, **labels: str
) -> FlowRun:
    """A flow run in that state, as if another process had made it."""
    run = client.create_flow_run(sleeps, name=name, state=state, parent_task_run_id=parent)
    client.update_flow_run_labels(run.id, {f"sa3d.{key}": value for key, value in labels.items()})
    return client.read_flow_run(run.id)


def states(client: SyncPrefectClient, *runs: FlowRun) -> list[str]:
    found = [client.read_flow_run(run.id).state for run in runs]
    return [state.name or "" for state in found if state is not None]


def test_runs_of_this_host_whose_process_is_gone_are_marked(client: SyncPrefectClient) -> None:
    assert (HOST, PROCESS) == ("sa3d.host", "sa3d.process")
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    dead = identity(gone.pid)
    gone.wait()
    living = identity(os.getpid())
    assert dead is not None
    assert living is not None
    here = socket.gethostname()
    reap()  # what flows that other tests killed have left on this server
    runs = [
        made(client, "dead", Running(), host=here, process=dead),
        made(client, "dying", Cancelling(), host=here, process=dead),
        made(client, "alive", Running(), host=here, process=living),
        made(client, "elsewhere", Running(), host="another", process=dead),
        made(client, "unlabelled", Running()),
    ]
    assert sorted(reap()) == ["dead", "dying"]
    assert states(client, *runs) == ["Crashed", "Cancelled", "Running", "Running", "Running"]
    assert reap() == []


def test_the_unfinished_children_of_a_run_are_cancelled(client: SyncPrefectClient) -> None:
    parent, other = made(client, "parent", Running()), made(client, "other", Running())
    boxes = [
        client.create_task_run(
            task=Task(name="job", fn=lambda: None),
            flow_run_id=owner.id,
            dynamic_key=str(number),
            state=Pending(),
        ).id
        for number, owner in enumerate((parent, parent, other))
    ]
    waiting = made(client, "waiting", Scheduled(), boxes[0])
    running = made(client, "running", Running(), boxes[1])
    stranger = made(client, "stranger", Running(), boxes[2])
    cancel_children(sleeps, parent, Cancelling())
    assert states(client, waiting, running, stranger) == ["Cancelled", "Cancelling", "Running"]


def test_the_automation_is_installed_once(client: SyncPrefectClient) -> None:
    for _ in range(2):
        asyncio.run(pools.install_automation())
    found = client.request("POST", "/automations/filter", json={}).json()
    assert [each["name"] for each in found] == [pools.AUTOMATION]
    assert found[0]["trigger"]["within"] == pools.SILENT_SECONDS


def test_a_flow_without_a_worker_notices_that_it_was_cancelled(
    client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "_LOOK_SECONDS", 0.0)
    run = made(client, "mine", Running())
    started = SimpleNamespace(id=str(run.id))
    monkeypatch.setattr(runtime, "flow_run", started)
    monkeypatch.setattr(runtime, "deployment", SimpleNamespace(id=None))
    mine = Cancellation()
    assert not mine.asked()
    client.set_flow_run_state(run.id, Cancelling())
    assert mine.asked()
    assert not mine.asked()  # once
    monkeypatch.setattr(runtime, "deployment", SimpleNamespace(id="x"))
    assert not Cancellation().asked()  # its worker tells it
    monkeypatch.setattr(runtime, "deployment", SimpleNamespace(id=None))
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert not Cancellation().asked()  # a server that is away cancels nothing
