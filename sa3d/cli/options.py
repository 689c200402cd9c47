"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sa3d.tracking.mlflow_store import go_offline
from sa3d.utils import paths

Experiment = Annotated[
    str, typer.Option("--experiment", "-e", help="Name under `experiments` in params.yaml.")
]
Params = Annotated[
    Path | None,
    typer.Option(
        "--params", help="Settings file. [default: params.yaml]", callback=paths.give_params
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting; may be repeated."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="CPU threads. [default: torch's choice]")
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=0,
        help="Processes that make the clouds of an endless data set; 0: none but this one. "
        "[default: 1 on the CPU, else all cores but two]",
    ),
]
Out = Annotated[
    Path | None, typer.Option("--out", help="Run folder. [default: work/NAME-FINGERPRINT]")
]
VariantName = Annotated[
    str | None,
    typer.Option("--variant", help="Way to an encoder. [default: the experiment's reference]"),
]
SeedNumber = Annotated[
    int | None, typer.Option("--seed", min=0, help="Of the run. [default: the first there is]")
]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline",
        help="Record in the run folder alone; `sa3d sync` sends it to MLflow later.",
        callback=go_offline,
    ),
]
