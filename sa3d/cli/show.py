"""``sa3d show``: pictures of clouds, data sets and runs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sa3d.cli.options import Quiet
from sa3d.cli.words import Up

if TYPE_CHECKING:
    from sa3d.viz.gallery import Gallery

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    short_help="Draw clouds, data sets and what runs left.",
    help="Draw clouds, data sets and what runs left: .png or .svg for paper, .html to turn.",
)

Out = Annotated[Path, typer.Option("--out", help="File to write: .png, .svg or .html.")]
Pretraining = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of a pre-training.")]
Clouds = Annotated[int, typer.Option("--clouds", min=1, help="Most clouds that are shown.")]
Strategy = Annotated[
    str | None,
    typer.Option("--mask", help="Mask strategy: random, block, gc. [default: that of the run]"),
]
_MOST = 4


class How(StrEnum):
    """How features come to lie on a plane."""

    TSNE = "tsne"
    PCA = "pca"


@app.command()
def cloud(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Clouds and meshes.")],
    out: Out = Path("cloud.png"),
    up: Annotated[Up, typer.Option("--up", help="The axis of the files that points up.")] = Up.Y,
    quiet: Quiet = False,
) -> None:
    """Draw clouds and meshes in files, patterns or folders."""
    import sys

    from sa3d.errors import UserError
    from sa3d.inference.inputs import expand
    from sa3d.show import sets
    from sa3d.viz.files import check_picture
    from sa3d.viz.galleries import named

    check_picture(out, "--out")
    found, failures = expand(files, sys.stdin)
    if failures:
        raise UserError(failures[0].reason)
    shapes = [(path.name, sets.dense(path, up.value)) for path in found]
    title = shapes[0][0] if len(shapes) == 1 else f"{len(shapes)} shapes"
    _write(out, named(shapes, title, across=min(6, len(shapes))), quiet)


@app.command()
def data(
    name: Annotated[str, typer.Argument(metavar="DATA", help="Data set, or its .h5 file.")],
    out: Out = Path("data.png"),
    clouds: Annotated[int, typer.Option("--clouds", min=1, help="Most classes shown.")] = 36,
    quiet: Quiet = False,
) -> None:
    """Draw a sheet of a data set: the first test cloud of each class."""
    from sa3d.show import sets
    from sa3d.viz.files import check_picture
    from sa3d.viz.galleries import named

    check_picture(out, "--out")
    opened = sets.open_set(name)
    shown = sets.samples(opened, clouds)
    total = sets.class_count(opened)
    of = f"its {total} classes" if len(shown) == total else f"{len(shown)} of its {total} classes"
    _write(out, named(shown, f"{opened.path.stem}: {of}"), quiet)


@app.command()
def mask(
    run: Pretraining,
    out: Out = Path("mask.png"),
    epoch: Annotated[
        list[int] | None,
        typer.Option("--epoch", min=1, help="May be repeated. [default: five, first to last]"),
    ] = None,
    strategy: Strategy = None,
    clouds: Clouds = 3,
    quiet: Quiet = False,
) -> None:
    """Draw which patches are masked in epochs of the curriculum, and how many for being hard."""
    from sa3d.errors import UserError
    from sa3d.show import runs
    from sa3d.viz.files import check_picture
    from sa3d.viz.galleries import masks

    check_picture(out, "--out")
    opened = runs.open_run(run, task="pretrain")
    found, epochs = runs.explained(opened), runs.epochs_of(opened)
    wanted = [each - 1 for each in epoch or []] or runs.spread_epochs(epochs)
    if max(wanted) >= epochs:
        raise UserError(f"--epoch {max(wanted) + 1}: the run has {epochs} epochs")
    columns = runs.masks_of(opened, found, wanted, strategy)
    title = f"Mask of {opened.title}: {strategy or opened.settings['mask']['name']}"
    _write(out, masks(columns, runs.chosen(found, clouds), title), quiet)


@app.command()
def complexity(
    run: Pretraining, out: Out = Path("complexity.png"), clouds: Clouds = 6, quiet: Quiet = False
) -> None:
    """Draw how hard a pre-trained model finds each part of a cloud."""
    from sa3d.errors import DataError
    from sa3d.show import runs
    from sa3d.viz import galleries
    from sa3d.viz.files import check_picture

    check_picture(out, "--out")
    opened = runs.open_run(run, task="pretrain")
    found = runs.explained(opened)
    if found.gc is None:
        raise DataError(f"the method of {run} predicts no complexity")
    title = f"Predicted complexity: {opened.title}"
    _write(out, galleries.complexity(found, runs.chosen(found, clouds), title), quiet)


@app.command()
def reconstruction(
    run: Pretraining,
    out: Out = Path("reconstruction.png"),
    clouds: Clouds = _MOST,
    quiet: Quiet = False,
) -> None:
    """Draw what a pre-trained model gets, what is masked, and what it rebuilds."""
    from sa3d.show import runs
    from sa3d.viz import galleries
    from sa3d.viz.files import check_picture

    check_picture(out, "--out")
    opened = runs.open_run(run, task="pretrain")
    found = runs.explained(opened)
    title = f"Reconstruction: {opened.title}"
    _write(out, galleries.reconstruction(found, runs.chosen(found, clouds), title), quiet)


@app.command()
def parts(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of a segmentation.")],
    out: Out = Path("parts.png"),
    clouds: Clouds = _MOST,
    quiet: Quiet = False,
) -> None:
    """Draw true and predicted parts, and where they differ."""
    from sa3d.show import runs
    from sa3d.viz import galleries
    from sa3d.viz.files import check_picture

    check_picture(out, "--out")
    opened = runs.open_run(run, task="segment")
    found = runs.segmented(opened)
    title = f"Parts: {opened.title}"
    _write(out, galleries.parts(found, runs.chosen(found, clouds), title), quiet)


@app.command()
def confusion(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of a classification.")],
    out: Out = Path("confusion.png"),
    quiet: Quiet = False,
) -> None:
    """Draw which classes are taken for which."""
    from sa3d.show import runs
    from sa3d.viz import charts, confusion_page
    from sa3d.viz.files import check_picture, write_picture
    from sa3d.viz.style import LIGHT

    check_picture(out, "--out")
    opened = runs.open_run(run, task="classify")
    matrix, names, accuracy = runs.confusion(opened)
    title = f"{opened.title}: {accuracy * 100:.1f} % of {int(matrix.sum())} test clouds right"
    write_picture(
        out,
        lambda: charts.confusion(matrix, names, LIGHT, title=title),
        lambda: confusion_page.confusion_page(matrix, names, LIGHT, title),
    )
    _say(out, quiet)


@app.command("map")
def embedding(
    name: Annotated[str, typer.Argument(metavar="DATA", help="Data set, or its .h5 file.")],
    out: Out = Path("map.png"),
    model: Annotated[
        str | None,
        typer.Option("--model", help="Run folder or models:/NAME@ALIAS. [default: in the box]"),
    ] = None,
    how: Annotated[How, typer.Option("--how", help="t-SNE or main components.")] = How.TSNE,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of t-SNE.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Draw the test clouds of a data set on a plane, alike ones near each other."""
    from sa3d.cli.words import watched
    from sa3d.inference.encoder import load_encoder
    from sa3d.show import sets
    from sa3d.viz.embedding import map_figure, map_page
    from sa3d.viz.files import check_picture, write_picture
    from sa3d.viz.style import LIGHT

    check_picture(out, "--out")
    clouds = sets.open_set(name)
    encoder = load_encoder(model)
    shown = sets.plane(clouds, encoder, how.value, seed, watched("embed", "clouds", quiet))
    title = f"{clouds.path.stem} as {model or 'the encoder in the box'} sees it"
    write_picture(
        out, lambda: map_figure(shown, LIGHT, title), lambda: map_page(shown, LIGHT, title)
    )
    _say(out, quiet)


@app.command()
def curriculum(
    run: Pretraining,
    out: Annotated[Path, typer.Option("--out", help="File to write: .gif or .html.")] = Path(
        "curriculum.gif"
    ),
    strategy: Strategy = None,
    clouds: Clouds = 3,
    quiet: Quiet = False,
) -> None:
    """Draw the mask from the first epoch to the last, as a moving picture."""
    from sa3d.cli.words import watched
    from sa3d.show import runs
    from sa3d.utils.files import write_whole
    from sa3d.viz import animation, style
    from sa3d.viz.files import check_picture
    from sa3d.viz.galleries import across
    from sa3d.viz.gallery import gallery_figure

    check_picture(out, "--out", (".gif", ".html"))
    opened = runs.open_run(run, task="pretrain")
    found, epochs = runs.explained(opened), runs.epochs_of(opened)
    masks = runs.masks_of(opened, found, runs.spread_epochs(epochs, 24), strategy)
    moving = out.suffix.lower() == ".gif"
    frames = []
    with style.context():
        for label, drawn in watched("curriculum", "frames", quiet)(masks):
            gallery = across(drawn, runs.chosen(found, clouds), f"{opened.title}: {label}")
            frames.append(
                style.png(gallery_figure(gallery, style.LIGHT), dpi=110 if moving else 170)
            )
    if moving:
        write_whole(out, animation.gif(frames))
    else:
        title = f"Curriculum: {opened.title}"
        write_whole(out, animation.slider(frames, [label for label, _ in masks], title).encode())
    _say(out, quiet)


def _write(out: Path, shown: Gallery, quiet: bool) -> None:
    from sa3d.viz.files import write_picture
    from sa3d.viz.gallery import gallery_figure, gallery_page
    from sa3d.viz.style import LIGHT

    write_picture(out, lambda: gallery_figure(shown, LIGHT), lambda: gallery_page(shown, LIGHT))
    _say(out, quiet)


def _say(out: Path, quiet: bool) -> None:
    if not quiet:
        print(out)
