"""``python -m flows.experiment NAME``: the experiment flow in this process."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sa3d.config.experiment import ExperimentConfig
from sa3d.config.loading import load_experiment, require_data
from sa3d.errors import UserError
from sa3d.tracking import mlflow_store
from sa3d.utils import paths

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the flow and leave with 0 (every step finished), 1 (some failed), 2 (refused),
    or 128 + signal (stopped)."""
    chosen = _parser().parse_args(arguments)
    try:
        config = load_experiment(chosen.name, chosen.params, chosen.set)
        require_data(config, chosen.params)
        sys.exit(run(config, chosen.out, chosen.device, chosen.quiet))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
    except KeyboardInterrupt:  # before the flow listens for it, or after
        sys.exit(130)


def run(config: ExperimentConfig, out: Path | None, device: str, quiet: bool) -> int:
    """The flow against the shared or a local Prefect server; the exit status.

    Raises:
        UserError: it could not begin.
    """
    from flows.server import prefect_api

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
    return _told(found, out, quiet)


def _drain() -> None:
    """Let Prefect's background threads send the rest while the server is still there."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()
    EventsWorker.drain_all(timeout=5)


def _told(summary: dict[str, Any], out: Path, quiet: bool) -> int:
    """Say how it ended and where to look."""
    if summary["signal"]:
        _say("stopped; checkpoints are kept, the same command goes on from there")
        return 128 + int(summary["signal"])
    for line in summary["failed"]:
        _say(line)
    if summary["failed"]:
        _say("the same command runs only what failed, with what needs it")
    if not quiet:
        _say(f"report     {_near(out / 'report.html')}")
        for name, how in _viewers().items():
            _say(f"{name:<10} {how}")
    return 1 if summary["failed"] else 0


def _viewers() -> dict[str, str]:
    """How to open MLflow and Prefect on what was just recorded."""
    uri = mlflow_store.tracking_uri()
    here = "?workflowType=machine_learning"  # MLflow opens in another mode otherwise
    if uri.startswith(("sqlite:", "sqlite+")):
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.experiment",
        description="Pre-train, compare on every task, report. Finished steps are reused.",
    )
    parser.add_argument("name", help="experiment of params.yaml")
    parser.add_argument("--out", type=Path, help="report folder (default: reports/NAME)")
    parser.add_argument("--params", type=Path, help="settings file (default: params.yaml)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="as pretrain.epochs=2"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    return parser


def _near(path: Path) -> Path:
    with contextlib.suppress(ValueError):
        return path.relative_to(Path.cwd())
    return path


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
