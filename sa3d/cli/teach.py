"""``sa3d teach``: a classifier out of a handful of clouds a class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sa3d.cli.options import Quiet
from sa3d.cli.words import Up, UpAxis, leave, tell, watched

if TYPE_CHECKING:
    from sa3d.inference.teaching import Examples, Taught


def teach(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Has a folder a class, with some clouds each."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to write the model to.")],
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            help="Run folder of a pre-training, its `model` folder, or models:/NAME@ALIAS. "
            "[default: the encoder that comes with this program]",
        ),
    ] = None,
    up: UpAxis = Up.Y,
    quiet: Quiet = False,
) -> None:
    """Make a classifier of ten or so clouds a class.

    Exit status: 0; 1, some files could not be read, are named and were not learnt from; 2, nothing
    was written.
    """
    from sa3d.inference.encoder import Encoder
    from sa3d.inference.locating import model_folder
    from sa3d.inference.taught import check_place, write_taught
    from sa3d.inference.teaching import class_folders, examples, teach
    from sa3d.utils.files import size_text
    from sa3d.utils.places import check_writable

    check_writable(out.absolute(), "--out")
    check_place(out)
    with model_folder(encoder) as place:
        loaded = Encoder(place)
        files = class_folders(folder)
        paths = watched("read", "clouds", quiet)([Path(file.path) for file in files])
        given = examples(files, loaded, paths, up.value)
        tell(given.failures)
        taught = teach(given)
        size = write_taught(out, place, loaded, given, taught, up.value)
    if not quiet:
        print("\n".join(_told(given, taught)))
        print(f"{out}: {size_text(size)}")
    leave(given.failures)


def _told(given: Examples, taught: Taught) -> list[str]:
    """What is known of the model, for people."""
    from sa3d.inference.teaching import TELLING

    counts, families = given.counts, len(set(given.family.tolist()))
    listed = ", ".join(f"{name} {count}" for name, count in counts.items())
    of = f" in {families} families" if families < len(given.labels) else ""
    lines = [f"{len(given.labels)} clouds{of} of {len(counts)} classes: {listed}"]
    if taught.accuracy is None:
        few = [name for name, count in counts.items() if count < TELLING]
        lines.append(
            f"how well it does cannot be said: {', '.join(few)} with fewer than {TELLING} clouds"
        )
        return lines
    interval = taught.accuracy.interval
    within = (
        f"95 % interval {interval.low:.1%} to {interval.high:.1%}"
        if interval
        else f"no interval: {taught.accuracy.how}"
    )
    lines.append(
        f"accuracy on clouds left out: {taught.accuracy.mean:.1%} ({within}); always saying the "
        f"largest class: {taught.chance:.1%}"
    )
    return lines
