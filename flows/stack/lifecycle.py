"""Bringing the stack up, repairing it, and bringing it down."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from filelock import FileLock, Timeout

from flows.server import healthy
from flows.stack import parts, ports, processes, record
from flows.stack.record import MLFLOW, PREFECT, Part, Stack
from flows.stack.waiting import looks
from sa3d.errors import UserError
from sa3d.tracking import mlflow_store

PORTS: Final = {PREFECT: 4200, MLFLOW: 5000}
_START_SECONDS = 300.0  # a cold disk and a new database have taken 75 s
_OPTIONS = {PREFECT: "--prefect-port", MLFLOW: "--mlflow-port"}

Say = Callable[[str], None]


@contextmanager
def alone() -> Iterator[None]:
    """Hold the lock of this project's stack.

    Raises:
        UserError: another process brings it up or down.
    """
    path = record.record_file().with_name("stack.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=0, fallback_to_soft=False):
            yield
    except Timeout:
        raise UserError("another process is bringing this stack up or down; wait for it") from None


def up(wanted: dict[str, int | None], pool_type: str, servers_only: bool, say: Say) -> Stack:
    """Start all parts that are not alive.

    What this call started is ended again if it fails.

    Args:
        wanted: port of each server; None: as before, or the usual one.
        pool_type: of the pool ``gpu``.
        servers_only: no work pools, deployments and workers.
        say: told how it goes.

    Raises:
        UserError: a port is taken, a part does not come up, a deployment is refused.
    """
    processes.heed_interrupts()
    stack = _begun(wanted, pool_type)
    for name in PORTS:
        if stack.living(name) is None:
            processes.end_rest(stack.token, say, name)
            ports.require_free(_OPTIONS[name], stack.ports[name])
    started: list[str] = []
    try:
        for plan in parts.servers(stack):
            if plan.name == MLFLOW and stack.living(MLFLOW) is None:
                # one process alone may make the tables; and files lie where they are without
                # the server
                mlflow_store.init_store(parts.store())
            stack = _started(stack, plan, started, say)
        for plan in parts.servers(stack):
            _await(stack, plan, say)
        if not servers_only:
            stack = _with_workers(stack, started, say)
    except BaseException:
        _undo(stack, started, say)
        raise
    return stack


def down(say: Say) -> bool:
    """End all parts and what they started; whether there was anything.

    Workers first: their runs still have to tell the servers how they ended.
    """
    stack = record.read()
    if stack is None:
        return False
    living = [part for part in stack.parts if part.alive]
    servers = [part for part in living if part.address]
    processes.end([part for part in living if not part.address], say)
    if living:
        reap(stack, say)
    processes.end(servers, say)
    processes.end_rest(stack.token, say)
    record.forget()
    return bool(living)


def reap(stack: Stack, say: Say) -> None:
    """Mark runs whose process is gone, in Prefect (:mod:`flows.stack.reaper`) and in MLflow.

    A server that does not answer is said: whatever it is done for goes on.
    """
    _point_prefect_at(stack)
    import httpx

    from flows.stack import reaper

    try:
        for name in reaper.reap():
            say(f"{name}: its process is gone; Prefect shows it as ended now")
    except httpx.HTTPError as error:
        say(
            f"Prefect's server does not answer ({type(error).__name__}): runs whose process is "
            "gone are still shown as running there"
        )
    try:
        for name in mlflow_store.end_dead_runs(parts.store()):
            say(f"{name}: its process is gone; MLflow shows it as killed now")
    except UserError as error:
        say(str(error))


def answers(part: Part, health: str) -> bool:
    """Whether a server that lives also answers."""
    return healthy(f"{part.address}{health}", timeout=5.0)


def _begun(wanted: dict[str, int | None], pool_type: str) -> Stack:
    """The stack as it was started before, or a new one without parts."""
    stack = record.read()
    if stack is None or not any(part.alive for part in stack.parts):
        if stack is not None:
            processes.end_rest(stack.token, lambda _: None)
        chosen = {name: wanted[name] or usual for name, usual in PORTS.items()}
        return Stack(uuid.uuid4().hex, chosen, pool_type)
    changed = [name for name, port in wanted.items() if port not in (None, stack.ports[name])]
    if changed or pool_type != stack.pool_type:
        told = ", ".join(stack.address(name) for name in PORTS)
        raise UserError(
            f"the stack is up at {told} with a pool of type {stack.pool_type}; "
            "`python -m flows.stack down` ends it, then start it with other options"
        )
    return stack


def _started(stack: Stack, plan: parts.Plan, started: list[str], say: Say) -> Stack:
    """Start a part, unless it is alive; written down at once, so that it can be ended."""
    if stack.living(plan.name) is not None:
        return stack
    say(f"starting {plan.name}")
    env = {**parts.environment(stack, plan.name), **plan.env}
    part = processes.start(plan.name, plan.command, env, plan.log, plan.address)
    started.append(plan.name)
    others = [each for each in stack.parts if each.name != plan.name]
    return record.write(stack, [*others, part])


def _with_workers(stack: Stack, started: list[str], say: Say) -> Stack:
    _point_prefect_at(stack)
    from flows.stack import pools

    pools.make_pools(stack.pool_type)
    asyncio.run(pools.install_automation())
    reap(stack, say)
    digest = pools.deployments_digest()
    if PREFECT in started or digest != stack.deployed:
        say(f"deploying the flows of {pools.DEPLOYMENTS}")
        log = record.record_file().with_name("deploy.log")
        pools.deploy(parts.environment(stack, "deploy"), log)
        stack = record.write(stack, stack.parts, digest)
    plans = parts.workers(stack)
    for plan in plans:
        stack = _started(stack, plan, started, say)
    _await_workers(stack, [plan.name for plan in plans], say)
    return stack


def _await(stack: Stack, plan: parts.Plan, say: Say) -> None:
    """Wait until a server answers."""
    part = stack.living(plan.name)

    def ready() -> bool:
        if part is None or not part.alive:
            raise UserError(f"{plan.name} ended at once; its reason is in {plan.log}")
        return answers(part, plan.health)

    _wait(ready, plan.name, str(plan.log), say)


def _await_workers(stack: Stack, names: Sequence[str], say: Say) -> None:
    """Wait until every worker has told the server that it is there."""
    from flows.stack import pools

    def ready() -> bool:
        for name in names:
            if stack.living(name) is None:
                part = stack.part(name)
                raise UserError(f"{name} ended at once; see {part.log if part else 'its log'}")
        return {name.removeprefix("worker ") for name in names} <= pools.online()

    _wait(ready, "the workers", str(record.record_file().parent), say)


def _wait(ready: Callable[[], bool], what: str, log: str, say: Say) -> None:
    for waited in looks(lambda: what, say):
        if ready():
            return
        if waited > _START_SECONDS:
            raise UserError(f"{what}: not ready after {waited:.0f} s; see {log}")


def _undo(stack: Stack, started: list[str], say: Say) -> None:
    """End what was started by a call that failed."""
    mine = [part for part in stack.parts if part.name in started]
    if mine:
        say("ending what was started")
        processes.end(mine, say)
    kept = [part for part in stack.parts if part.name not in started]
    if kept:
        record.write(stack, kept)
    else:
        record.forget()


def _point_prefect_at(stack: Stack) -> None:
    """Prefect reads the address once, when it is imported."""
    os.environ["PREFECT_API_URL"] = f"{stack.address(PREFECT)}/api"
