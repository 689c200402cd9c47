"""``sa3d export``: a model for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sa3d.cli.options import Quiet


def export(
    out: Annotated[
        Path, typer.Option("--out", help="File: .onnx, or .pt2 for torch.export.load().")
    ],
    model: Annotated[
        str | None,
        typer.Argument(
            help="Run or model folder, or models:/NAME@ALIAS. [default: the encoder in the box]"
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write a model for other programs, as ONNX or for torch.

    Any kind of model, from the cloud to the answer. The file is tested before it is kept: its
    answers are those of the model, to 1e-4.
    """
    from sa3d.deploy.writing import check_format, export
    from sa3d.inference.locating import model_folder
    from sa3d.utils.files import size_text

    check_format(out)
    with model_folder(model) as folder:
        written = export(folder, out)
    if not quiet:
        print(
            f"{out}: {size_text(written.size)}, differs from the model by {written.difference:.1g}"
        )
