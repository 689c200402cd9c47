"""``sa3d``: the command line.

Heavy imports happen inside the commands, so that ``--help`` answers at once. A
:class:`~sa3d.errors.UserError` is printed alone and exits with 2; SIGTERM and Ctrl-C exit with
143 and 130, training having saved where it stood.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sa3d.cli import (
    convert,
    data,
    embed,
    export,
    models,
    pack,
    predict,
    search,
    serve,
    show,
    teach,
    training,
)
from sa3d.cli.extras import missing
from sa3d.cli.options import Device, Quiet, Threads
from sa3d.errors import UserError
from sa3d.utils.places import refusal
from sa3d.utils.waiting import wait_briefly


class _Commands(TyperGroup):
    """Turns what ends a command early into a message and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            print(f"sa3d: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
        except (ModuleNotFoundError, OSError) as error:
            said = refusal(error) if isinstance(error, OSError) else missing(error)
            if said is None:
                raise
            print(f"sa3d: {said}", file=sys.stderr)
            sys.exit(UserError.exit_code)
        except KeyboardInterrupt:
            sys.exit(130)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: rich costs a third of a second
    help="Masked autoencoders on point clouds that mask the geometrically hard patches first.",
)
training.add_commands(app)
app.add_typer(data.app, name="data")
app.command()(convert.convert)
app.command()(embed.embed)
app.command()(export.export)
app.command()(pack.pack)
app.command()(predict.predict)
app.command()(serve.serve)
app.command()(search.index)
app.command()(search.search)
app.command()(teach.teach)
app.add_typer(show.app, name="show")
models.add_commands(app)


@app.command()
def report(
    results: Annotated[
        Path, typer.Argument(help="results.json of an experiment, or ablation.json of an ablation.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder. [default: that of results.json]")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write the report of an experiment or ablation.

    That is report.html, report.md and figures.
    """
    from sa3d.report import write_ablation, write_report

    write = write_ablation if results.name == "ablation.json" else write_report
    written = write(results, out or results.parent)
    if not quiet:
        print(written)


@app.command()
def doctor(device: Device = "auto", threads: Threads = None) -> None:
    """Show what this machine offers and how it is set up."""
    from sa3d.cli.doctor import examine

    findings = examine(device, threads)
    for finding in findings:
        print(f"{'' if finding.ok else 'PROBLEM  '}{finding.name}: {finding.value}")
    if not all(finding.ok for finding in findings):
        sys.exit(2)


@app.command()
def sync(
    place: Annotated[
        Path | None,
        typer.Argument(help="Run folder, or a folder of run folders. [default: work/]"),
    ] = None,
    experiment: Annotated[
        str | None, typer.Option("--experiment", "-e", help="Only runs of this experiment.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Send to MLflow what it lacks.

    That is what runs left that were made offline, or while it was away.
    """
    from sa3d.tracking.catching_up import catch_up

    sent = catch_up(place, experiment)
    for line in (*sent.deleted, *sent.problems):
        print(f"sa3d: {line}", file=sys.stderr)
    if not quiet:
        for version in sent.models:
            print(f"registered {version}")
        print(f"{sent.points} points of {sent.runs} runs sent")
    if sent.problems:
        sys.exit(UserError.exit_code)


def main() -> None:
    """Entry point of ``sa3d`` and ``python -m sa3d``."""
    # outside of training, which has a handler of its own that saves first
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
    wait_briefly()
    app(prog_name="sa3d")


if __name__ == "__main__":
    main()
