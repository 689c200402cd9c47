"""``python -m flows.experiment NAME``: the experiment flow in this process."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flows.command_line import Command, plain_app, say
from sa3d.cli.options import Offline
from sa3d.utils.paths import give_params

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

    from sa3d.config.experiment import ExperimentConfig


app = plain_app()


@app.command(cls=Command)
def command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Experiment of params.yaml.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Report folder. [default: reports/NAME]")
    ] = None,
    params: Annotated[
        Path | None,
        typer.Option(
            "--params", help="Settings file. [default: params.yaml]", callback=give_params
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a setting; may be repeated."),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option("--device", help="What children compute on.")
    ] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit status 1 also where data was absent.")
    ] = False,
    offline: Offline = False,
) -> None:
    """Pre-train, evaluate, report. What is finished is reused.

    Tasks whose data set is absent are skipped, and said to be. Exit status: 0, every other node
    finished; 1, some failed; 2, refused; 128 + signal, stopped.
    """
    # here, so that --help answers at once
    from sa3d.config.loading import load_experiment, require_data

    config = load_experiment(name, params, overrides or ())
    require_data(config, params)
    sys.exit(run(config, out, device, quiet, strict))


def main() -> None:
    """Entry point of ``python -m flows.experiment``."""
    app(prog_name="python -m flows.experiment")


def run(config: ExperimentConfig, out: Path | None, device: str, quiet: bool, strict: bool) -> int:
    """The flow against the shared or a local Prefect server; the exit status.

    Raises:
        UserError: it could not begin.
    """
    from flows.server import prefect_api
    from sa3d.utils import paths

    # Prefect's own console output would repeat, with tracebacks, what is said here; its API
    # still gets every line. Errors of the flow itself come out below.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    out = (out or paths.root() / "reports" / config.name).resolve()
    log = paths.root() / ".local" / "prefect-server.log"
    with prefect_api(log):
        from flows.pipeline import experiment

        logging.getLogger("prefect.events").setLevel(logging.CRITICAL)  # a dead server floods it
        state: State[Any] = experiment(config, out, device, quiet, return_state=True)
        found = state.result(raise_on_failure=False)
        _drain()
    if isinstance(found, BaseException):
        raise found
    return _told(found, config.name, out, quiet, strict)


def _drain() -> None:
    """Let Prefect's background threads send the rest while the server is still there."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()
    EventsWorker.drain_all(timeout=5)


def _told(summary: dict[str, Any], name: str, out: Path, quiet: bool, strict: bool) -> int:
    """Say how it ended and where to look."""
    if summary["signal"]:
        say("stopped; checkpoints are kept, the same command goes on from there")
        return 128 + int(summary["signal"])
    for line in (*summary["skipped"], *summary["failed"]):
        say(line)
    if summary["failed"]:
        say("the same command runs only what failed, with what needs it")
    if not quiet:
        say(f"report     {_near(out / 'report.html')}")
        for viewer, how in _viewers(name).items():
            say(f"{viewer:<10} {how}")
    return 1 if summary["failed"] or (strict and summary["skipped"]) else 0


def _viewers(experiment: str) -> dict[str, str]:
    """How to open MLflow and Prefect on what was just recorded."""
    from sa3d.tracking import mlflow_store

    uri = mlflow_store.tracking_uri()
    here = "?workflowType=machine_learning"  # MLflow opens in another mode otherwise
    if mlflow_store.offline():
        command = shlex.join(["sa3d", "sync", "-e", experiment])
        found = {"MLflow": f"has nothing of this yet; send it when it is up: {command}"}
    elif uri.startswith(("sqlite:", "sqlite+")):
        command = shlex.join(["mlflow", "ui", "--backend-store-uri", uri])
        found = {"MLflow": f"{command}, then http://127.0.0.1:5000/#/{here}"}
    else:
        found = {"MLflow": f"{uri}/#/{here}"}
    api = os.environ.get("PREFECT_API_URL")
    if api:
        found["Prefect"] = api.removesuffix("/api")
    else:
        from flows.server import home_settings

        # a quoted NAME=VALUE would be taken for the name of a program
        settings = [f"{key}={shlex.quote(value)}" for key, value in home_settings().items()]
        command = " ".join([*settings, "prefect server start"])
        found["Prefect"] = f"{command}, then http://127.0.0.1:4200"
    return found


def _near(path: Path) -> Path:
    with contextlib.suppress(ValueError):
        return path.relative_to(Path.cwd())
    return path


if __name__ == "__main__":
    main()
