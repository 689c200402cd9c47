"""``sa3d data …``: make and check processed data sets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sa3d.cli.options import Params, Quiet, Set

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Make and check processed data sets."
)


@app.command("prepare")
def prepare(
    name: Annotated[str, typer.Argument(help="Name under `datasets` in params.yaml.")],
    params: Params = None,
    overrides: Set = None,
    quiet: Quiet = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder. [default: data/processed]")
    ] = None,
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing",
            help="Make it of what is there where files of the data set's lists are missing.",
        ),
    ] = False,
) -> None:
    """Make the processed file of a data set from its raw source."""
    from sa3d.config.loading import load_source
    from sa3d.data.prepare import prepare as make
    from sa3d.utils.paths import processed

    source = load_source(name, params, overrides or ())
    file = out / f"{name}.h5" if out is not None else processed(name)
    made = make(name, source, file, quiet=quiet, allow_missing=allow_missing)
    if not quiet:
        print(made)


@app.command("check")
def check(
    name: Annotated[
        str | None, typer.Argument(help="Name of a data set; without it, all under `datasets`.")
    ] = None,
    params: Params = None,
    overrides: Set = None,
) -> None:
    """Say what each data set needs, whether it is there and whether it is whole."""
    from sa3d.config.loading import load_source, source_names
    from sa3d.data.prepare import check as look
    from sa3d.utils.paths import processed

    good = True
    made_here = source_names(params)
    for each in [name] if name is not None else made_here:
        # a data set that no source makes has no settings either
        given = each not in made_here and not overrides
        source = None if given else load_source(each, params, overrides or ())
        found = look(each, source, processed(each))
        print(found)
        good = good and found.processed
    if name is not None and not good:  # of all of them, those that nobody asked for may lack
        sys.exit(2)
