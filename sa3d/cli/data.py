"""``sa3d data …``: get, make and check data sets."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from sa3d.cli.data_add import add
from sa3d.cli.options import Params, Quiet, Set
from sa3d.errors import UserError
from sa3d.utils.json_file import plain

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Get, make and check data sets."
)
Name = Annotated[str, typer.Argument(help="Name under `datasets` in params.yaml.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object; data/README.md explains its keys.")
]
app.command("add")(add)


@app.command("prepare")
def prepare(
    name: Name,
    params: Params = None,
    overrides: Set = None,
    quiet: Quiet = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder. [default: data/processed]")
    ] = None,
    or_absent: Annotated[
        bool,
        typer.Option(
            "--or-absent",
            help="Without any raw data: record that the set is absent, which DVC and the flow "
            "understand, and exit with 0.",
        ),
    ] = False,
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
    from sa3d.data.prepare import prepare_or_absent
    from sa3d.utils.paths import processed

    source = load_source(name, params, overrides or ())
    file = out / f"{name}.h5" if out is not None else processed(name)
    if or_absent:
        made, lacking = prepare_or_absent(
            name, source, file, quiet=quiet, allow_missing=allow_missing
        )
        if lacking:
            print(f"sa3d: {lacking}", file=sys.stderr)
    else:
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
    as_json: Json = False,
) -> None:
    """Say what each data set needs, whether it is there and whether it is whole.

    Exit status: 0, the named data set can be read and nothing of it is wrong; without a name,
    nothing that is there is wrong. Else 2.
    """
    from sa3d.cli.data_text import checked
    from sa3d.config.loading import load_source, source_names
    from sa3d.data.check import check as look
    from sa3d.utils.paths import processed

    made_here = source_names(params)
    found = []
    for each in [name] if name is not None else made_here:
        # a data set that no source makes has no settings either
        given = each not in made_here and not overrides
        source = None if given else load_source(each, params, overrides or ())
        found.append(look(each, source, processed(each)))
        if not as_json:
            print(checked(found[-1]))
    # of all of them, those that nobody asked for may lack
    fine = found[0].fine if name is not None else not any(each.flawed for each in found)
    if as_json:
        print(
            json.dumps(
                {"fine": fine, "sets": [each.as_json() for each in found]}, indent=2, default=plain
            )
        )
    if not fine:
        sys.exit(2)


@app.command("list")
def list_sets(params: Params = None, as_json: Json = False) -> None:
    """List all data sets: what is there, and what they are for."""
    from dataclasses import asdict

    from sa3d.cli.data_text import table
    from sa3d.config.loading import load_source, source_names
    from sa3d.data.check import listed
    from sa3d.utils.paths import processed

    names = source_names(params)
    files = processed("any").parent.glob("[!.]*.h5")
    others = sorted({file.stem for file in files} - set(names))
    rows = [listed(name, load_source(name, params), processed(name)) for name in names]
    rows += [listed(name, None, processed(name)) for name in others]
    if as_json:
        print(json.dumps({"sets": [asdict(row) for row in rows]}, indent=2, default=plain))
    else:
        print(table(rows))


@app.command("fetch")
def fetch(
    name: Name,
    params: Params = None,
    overrides: Set = None,
    quiet: Quiet = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before it begins.")] = False,
) -> None:
    """Download the raw files of a data set, where they have a public address.

    A download that was interrupted goes on where it stopped.
    """
    from sa3d.config.loading import load_source
    from sa3d.data.fetch import fetch as get

    source = load_source(name, params, overrides or ())
    for line in get(name, source, agree=_agreed(yes), quiet=quiet):
        if not quiet:
            print(line, flush=True)  # before the progress that goes to stderr


def _agreed(yes: bool) -> Callable[[str], bool]:
    """Asks on the terminal; where there is none, only ``--yes`` can answer."""

    def ask(question: str) -> bool:
        if yes:
            return True
        if not sys.stdin.isatty():
            raise UserError("there is no terminal to ask on whether to download it: add --yes")
        return typer.confirm(question)

    return ask
