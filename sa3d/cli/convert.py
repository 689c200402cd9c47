"""``sa3d convert``: published checkpoints, both ways."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sa3d.cli.options import Quiet
from sa3d.errors import UserError


class To(StrEnum):
    """Which way."""

    OURS = "ours"
    OFFICIAL = "official"


def convert(
    checkpoint: Annotated[
        Path,
        typer.Argument(help="Published file; with --to official, a run or model folder."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder; with --to official, a .pth file.")],
    to: Annotated[To, typer.Option(help="Whose form to write.")] = To.OURS,
    layout: Annotated[
        str | None, typer.Option(help="Kind of checkpoint. [default: the one that fits]")
    ] = None,
    ema: Annotated[bool, typer.Option("--ema", help="The moving average of the weights.")] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="What no tensor shows, as in model.heads=6 or preprocessing.points=2048.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Prepared data set that names classes and parts. [default: published]"),
    ] = None,
    allow_missing: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN", help="Tensors that may be missing, as in 'cls_head_finetune.*'."
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict/--no-strict", help="Refuse missing and unknown tensors.")
    ] = True,
    trust: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOBAL", help="A class that the file may build while it is read."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Convert models of the published code, and back."""
    from sa3d.checkpoints.convert import Reading, convert_back
    from sa3d.checkpoints.convert import convert as make
    from sa3d.checkpoints.renaming import Leniency
    from sa3d.utils.paths import processed

    leniency = Leniency(tuple(allow_missing or ()), strict)
    if to is To.OFFICIAL:
        if ema or overrides or data or trust:
            raise UserError(
                "--ema, --set, --data and --trust are for reading a published file, not for "
                "--to official"
            )
        report = convert_back(checkpoint, out, layout, leniency)
    else:
        clouds = None if data is None else processed(data)
        reading = Reading(layout, ema, trust or (), leniency, overrides or (), clouds)
        report = make(checkpoint, out, reading)
    if not quiet:
        print("\n".join([*report.lines(), "", str(out)]))
