"""``sa3d predict``: classes of clouds and meshes in files, or the parts of their points."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sa3d.cli.options import Quiet
from sa3d.cli.words import Up, files_of, leave, tell, watched
from sa3d.errors import UserError

if TYPE_CHECKING:
    from sa3d.inference.classes import ClassPredictor
    from sa3d.inference.clouds import Failure
    from sa3d.inference.parts import PartPredictor


def predict(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Run folder of `sa3d classify`, `sa3d segment` or `sa3d fewshot`, what `sa3d "
            "teach` wrote, a `model` folder, or models:/NAME@ALIAS.",
        ),
    ],
    clouds: Annotated[
        list[str],
        typer.Argument(
            metavar="CLOUD...",
            help="A file (ply, stl, npy, ...), a folder, a pattern, or - for names on standard "
            "input.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Classes: file to write, .csv, .parquet or .json. Parts: folder to write to; "
            "must be given.",
        ),
    ] = None,
    category: Annotated[
        str | None,
        typer.Option(
            "--category", help="Of the clouds; needed by a part model that knows more than one."
        ),
    ] = None,
    up: Annotated[
        Up | None,
        typer.Option(
            "--up",
            help="The axis of the files that points up. [default: as `sa3d teach` was told, else "
            "y]",
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Say what clouds are, or which parts their points are of.

    Exit status: 0; 1, some files could not be read and are named; 2, nothing was written.
    """
    from sa3d.inference.classes import ClassPredictor
    from sa3d.inference.loading import load_model
    from sa3d.inference.parts import PartPredictor

    loaded = load_model(model)
    if isinstance(loaded, PartPredictor):
        _parts(loaded, clouds, out, category, up, quiet)
    elif category is not None:
        raise UserError(f"--category {category}: is for a part model, {model} is none")
    elif isinstance(loaded, ClassPredictor):
        _classes(loaded, clouds, out, up, quiet)
    else:
        raise UserError(
            f"{model} holds an encoder, which knows no classes; `sa3d embed` gives its features, "
            "`sa3d teach` makes a classifier of it"
        )


def _classes(
    model: ClassPredictor, words: list[str], out: Path | None, up: Up | None, quiet: bool
) -> None:
    from sa3d.inference.class_files import check_format, lines, write_classes

    if out is not None:
        check_format(out)
    files, missing = files_of(words)
    watch = watched("predict", "clouds", quiet)
    found = model.predict_all(watch(files), up=up.value if up else None)
    failures = [*missing, *found.failures]
    tell(failures)
    if not found.ids:
        sys.exit(UserError.exit_code)
    if out is not None:
        write_classes(out, found)
    if not quiet:
        print("\n".join(lines(found)))
        if out is not None:
            print(out)
    leave(failures)


def _parts(
    model: PartPredictor,
    words: list[str],
    out: Path | None,
    category: str | None,
    up: Up | None,
    quiet: bool,
) -> None:
    from sa3d.inference.part_files import PartFolder
    from sa3d.utils.places import check_writable

    if out is None:
        raise UserError("parts are written into a folder: say which with --out FOLDER")
    name = model.known(category)
    check_writable(out.absolute(), "--out")
    files, missing = files_of(words)
    failures: list[Failure] = []
    folder = PartFolder(out, model, name, files)
    given = watched("predict", "clouds", quiet)(files)
    for cloud in model.each(given, failures, up=up.value if up else None, category=name):
        said = folder.write(cloud)
        if not quiet:
            print(said)
    failures[:0] = missing
    tell(failures)
    if not folder.written:
        sys.exit(UserError.exit_code)
    listing = folder.finish()
    if not quiet:
        print(f"{listing}: {folder.written} clouds")
    leave(failures)
