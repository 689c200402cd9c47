"""A flow in this process, as ``python -m flows.NAME`` starts it: its server, its end, its words."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.command_line import say
from flows.endings import NotCompleted
from flows.forms.base import Form, RunningForm
from sa3d.tracking import mlflow_store
from sa3d.utils import paths
from sa3d.utils.places import check_writable

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

REFUSED = 2  # exit status, as of a UserError
_UNTOLD = "untold"  # in a summary: Prefect's server does not know of this end


def make(name: str, form: RunningForm) -> int:
    """Make the runs that a form asks for; the exit status.

    Raises:
        UserError: it could not begin.
    """
    # what can be refused is, before a server is started
    request = form.request()
    check_writable(paths.work(), "SA3D_WORK")
    check_writable(request.out, "--out")
    mlflow_store.go_offline(form.offline)
    summary = run(name, form)
    code = _told(summary, form)
    if summary.get(_UNTOLD):
        # Prefect's threads would go on asking its server for minutes
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def run(name: str, form: Form) -> dict[str, Any]:
    """The flow against the shared or a local Prefect server; what it says of its end.

    Raises:
        UserError: it could not begin.
    """
    import httpx

    from flows.server import prefect_api
    from flows.stack.use import use_stack

    # Prefect's own console output would repeat, with tracebacks, what is said here; its API
    # still gets every line. Errors of the flow itself come out below.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    home = Path(os.environ["PREFECT_HOME"])
    check_writable(home, "PREFECT_HOME")
    use_stack(say)
    mlflow_store.check_store_writable()
    with prefect_api(home / "server.log") as api:
        from flows.deployed import FLOWS  # while the server starts

        mlflow_store.preload()
        api.wait()
        logging.getLogger("prefect.events").setLevel(logging.CRITICAL)  # a dead server floods it
        flow: Any = FLOWS[name]
        try:
            state: State[Any] = flow(form, return_state=True)
        except httpx.TransportError as error:
            return _untold(error, api.url)
        found = state.result(raise_on_failure=False)
        _drain()
    if isinstance(found, NotCompleted):
        return found.summary
    if isinstance(found, BaseException):
        raise found
    summary: dict[str, Any] = found
    return summary


def _untold(error: Exception, url: str) -> dict[str, Any]:
    """The end of a flow that could not tell Prefect's server of it.

    Raises:
        UserError: the server was gone before the flow came to its end.
    """
    from flows.endings import summary
    from sa3d.errors import UserError

    found = summary()
    gone = f"Prefect's server at {url} does not answer ({type(error).__name__})"
    if found is None:
        raise UserError(f"{gone}; start it, then the same command goes on") from None
    say(f"{gone}: its page shows this flow as running")
    return found | {_UNTOLD: True}


def _drain() -> None:
    """Let Prefect's background threads send the rest while the server is still there."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()
    EventsWorker.drain_all(timeout=5)


def _told(summary: dict[str, Any], form: RunningForm) -> int:
    """Say how it ended and where to look."""
    if summary["refused"]:
        say(f"sa3d: {summary['refused']}")
        return REFUSED
    if summary["signal"]:
        say("stopped; checkpoints are kept, the same command goes on from there")
        return 128 + int(summary["signal"])
    for line in (*summary["skipped"], *summary["failed"]):
        say(line)
    if summary["failed"]:
        say("the same command runs only what failed, with what needs it")
    if not form.quiet:
        say(f"report     {_near(Path(summary['results']).parent / 'report.html')}")
        for name, how in viewers().items():
            say(f"{name:<10} {how}")
    return 1 if summary["failed"] or (form.strict and summary["skipped"]) else 0


def viewers() -> dict[str, str]:
    """How to open MLflow and Prefect on what was just recorded."""
    from sa3d.tracking import mlflow_store

    uri = mlflow_store.tracking_uri()
    here = "?workflowType=machine_learning"  # MLflow opens in another mode otherwise
    if mlflow_store.offline():
        found = {"MLflow": "has nothing of this yet; send it when it is up: sa3d sync"}
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
