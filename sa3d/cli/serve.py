"""``sa3d serve``: a model behind HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sa3d.cli.options import Quiet, Threads


def serve(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Run or model folder, or models:/NAME@ALIAS. [default: the encoder in the box]"
        ),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option("--index", help="Index of `sa3d index`, for shapes that are similar."),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; others than this machine may ask.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port; 0: any that is free.")
    ] = 8000,
    max_clouds: Annotated[
        int, typer.Option("--max-clouds", min=1, help="Clouds of one request.")
    ] = 64,
    max_points: Annotated[
        int, typer.Option("--max-points", min=1, help="Points of one request.")
    ] = 1_000_000,
    max_megabytes: Annotated[
        int, typer.Option("--max-megabytes", min=1, help="Size of one request.")
    ] = 32,
    max_waiting: Annotated[
        int, typer.Option("--max-waiting", min=1, help="Requests at once; others get 503.")
    ] = 64,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Answer over HTTP what a model says of clouds.

    A page to drop files on is there too. The service stops on Ctrl-C or SIGTERM, after what it has
    taken is answered.
    """
    from sa3d.service.limits import Limits
    from sa3d.service.run import serve

    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    limits = Limits(max_clouds, max_points, max_megabytes << 20, max_waiting)

    def started(address: str) -> None:
        if not quiet:
            print(address, flush=True)

    serve(model, host, port, limits, started, index)
