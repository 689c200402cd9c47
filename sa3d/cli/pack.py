"""``sa3d pack``: the encoder of a pre-training alone, to be given away."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sa3d.cli.options import Quiet


def pack(
    run: Annotated[Path, typer.Argument(help="Run folder of a finished pre-training.")],
    evidence: Annotated[
        list[Path] | None,
        typer.Argument(
            help="What its card shall tell: run folders of evaluations and of the teacher, or JSON "
            "files of measurements."
        ),
    ] = None,
    note: Annotated[str, typer.Option("--note", help="A sentence for its card.")] = "",
    out: Annotated[Path, typer.Option("--out", help="Folder.")] = Path("encoder"),
    quiet: Quiet = False,
) -> None:
    """Write the encoder of a pre-training alone, small.

    It is in half precision, with a card of its making.
    """
    from sa3d.checkpoints.pack import pack_encoder
    from sa3d.utils.files import size_text

    packed = pack_encoder(run, out, evidence or [], note)
    if not quiet:
        print(f"{packed.folder}: {packed.parameters} numbers, {size_text(packed.size)}")
