"""``sa3d embed``: the frozen features of clouds and meshes in files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sa3d.cli.options import Quiet
from sa3d.cli.words import Up, UpAxis, files_of, leave, tell, watched
from sa3d.errors import UserError


def embed(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[MODEL] CLOUD...",
            help="MODEL: run folder of a pre-training, its `model` folder, or models:/NAME@ALIAS; "
            "left out: the encoder that comes with this program. CLOUD: a file (ply, stl, npy, "
            "...), a folder, a pattern, or - for names on standard input.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", help="File to write: .npz, .npy or .parquet.")
    ] = Path("features.npz"),
    up: UpAxis = Up.Y,
    quiet: Quiet = False,
) -> None:
    """Turn clouds and meshes into features: one row each, with its id.

    Exit status: 0; 1, some files could not be read and are named; 2, nothing was written.
    """
    from sa3d.inference.encoder import load_encoder
    from sa3d.inference.locating import names_model
    from sa3d.inference.table import check_format, write_table

    check_format(out)
    model, clouds = (words[0], words[1:]) if names_model(words[0]) else (None, words)
    encoder = load_encoder(model)
    files, missing = files_of(clouds)
    found = encoder.embed_all(watched("embed", "clouds", quiet)(files), up=up.value)
    failures = [*missing, *found.failures]
    tell(failures)
    if not found.ids:
        sys.exit(UserError.exit_code)
    written = write_table(out, found)
    if not quiet:
        rows, width = found.features.shape
        print(f"{' and '.join(map(str, written))}: {rows} rows of {width} features")
    leave(failures)
