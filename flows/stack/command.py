"""``python -m flows.stack up``, ``down``, ``status``."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from flows.command_line import Command, plain_app, say
from flows.stack import lifecycle, parts, record
from flows.stack.record import MLFLOW, PREFECT, Stack

PROGRAM = "python -m flows.stack"
app = plain_app()


def main() -> None:
    """Entry point of ``python -m flows.stack``."""
    app(prog_name=PROGRAM)


@app.command(cls=Command)
def up(
    prefect_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="[default: 4200]")
    ] = None,
    mlflow_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="[default: 5000]")
    ] = None,
    pool_type: Annotated[
        str, typer.Option(help="Of the work pool gpu: process, docker, kubernetes, …")
    ] = "process",
    servers_only: Annotated[
        bool, typer.Option("--servers-only", help="Prefect and MLflow, and no workers.")
    ] = False,
) -> None:
    """Start Prefect, MLflow, the deployments and a worker for each GPU, or what of it has died."""
    with lifecycle.alone():
        wanted = {PREFECT: prefect_port, MLFLOW: mlflow_port}
        stack = lifecycle.up(wanted, pool_type, servers_only, say)
    for line in _told(stack):
        print(line)  # noqa: T201


@app.command(cls=Command)
def down() -> None:
    """End everything that `up` started. Runs save, and go on when they are started again."""
    with lifecycle.alone():
        there = lifecycle.down(say)
    say("the stack is down" if there else "there is no stack to end")


@app.command(cls=Command)
def status(
    reap: Annotated[
        bool, typer.Option("--reap", help="Mark runs whose process on this machine is gone.")
    ] = False,
) -> None:
    """Say which parts are up. Exit status: 0, all; 1, some are down, or there is no stack."""
    stack = record.read()
    if stack is None:
        say(f"there is no stack here; `{PROGRAM} up` starts it")
        sys.exit(1)
    rows = _rows(stack)
    for row in [("part", "state", "pid", "for", "address or log"), *rows]:
        print(f"{row[0]:<22} {row[1]:<16} {row[2]:>8} {row[3]:>9}  {row[4]}".rstrip())  # noqa: T201
    if reap:
        lifecycle.reap(stack, say)
    if any(row[1] != "up" for row in rows):
        say(f"`{PROGRAM} up` starts again what is down")
        sys.exit(1)


def _rows(stack: Stack) -> list[tuple[str, str, str, str, str]]:
    health = {plan.name: plan.health for plan in parts.servers(stack)}
    rows = []
    for part in stack.parts:
        state, pid, since = "down", "", ""
        if part.alive:
            silent = part.name in health and not lifecycle.answers(part, health[part.name])
            state = "does not answer" if silent else "up"
            pid, since = str(part.pid), _duration(time.time() - part.started)
        rows.append((part.name, state, pid, since, part.address or part.log))
    return rows


def _duration(seconds: float) -> str:
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(0, seconds):.0f} s"


def _told(stack: Stack) -> list[str]:
    """Where to go and what to click."""
    workers = [part.name.removeprefix("worker ") for part in stack.parts if not part.address]
    lines = [
        f"Prefect   {stack.address(PREFECT)}",
        f"MLflow    {stack.address(MLFLOW)}/#/experiments?workflowType=machine_learning",
        "          an experiment such as sa3d/pretrain: tick some runs, then Compare",
    ]
    if workers:
        lines.insert(1, "          Deployments, `experiment`, Run: a form for what is to be run")
        lines.append(f"workers   {', '.join(workers)}")
    return [*lines, f"end it    {PROGRAM} down"]


if __name__ == "__main__":
    main()
