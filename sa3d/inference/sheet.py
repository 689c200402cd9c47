"""Sheets: queries with what was found for them, and duplicates side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sa3d.data.dense import dense_points
from sa3d.data.mesh import Mesh
from sa3d.data.readers import read_cloud_or_mesh
from sa3d.errors import DataError
from sa3d.inference.index import Index, absolute, stamp_of
from sa3d.inference.neighbours import Answer, Group
from sa3d.viz.files import write_picture
from sa3d.viz.gallery import Gallery, Shot, Strip, gallery_figure, gallery_page
from sa3d.viz.style import LIGHT

ACROSS: Final = 5
"""Shapes beside the first of a row; more go to rows below."""
MOST_GROUPS: Final = 8

Name = Callable[[Path], str]


def nearest_sheet(index: Index, answers: Sequence[Answer], name: Name) -> Gallery:
    """Each query and the shapes that are nearest to it, best first."""
    strips = []
    for answer in answers:
        points, words = _points(index, answer.query, answer.cloud), _words(answer.query, name)
        query = Shot(points, LIGHT.alert, *words, strong=True)
        found = [
            Shot(
                _points(index, near.path, index.cloud(near.row), near.row),
                LIGHT.link, _words(near.path, name)[0], f"{near.similarity:.2f}", near.similarity,
            )
            for near in answer.nearest
        ]  # fmt: skip
        strips += _strips(query, found)
    if len(answers) == 1:
        title = f"{answers[0].query.name} and the shapes most like it, of {len(index)}"
    else:
        title = f"{len(answers)} queries and the shapes most like each, of {len(index)}"
    heads = ["query", *(str(near.rank) for near in answers[0].nearest)][: ACROSS + 1]
    return Gallery(strips, title, heads if len(strips) == len(answers) else ())


def duplicates_sheet(index: Index, groups: Sequence[Group], name: Name) -> Gallery:
    """A row a group, the first ones where there are many."""
    strips = []
    for group in groups[:MOST_GROUPS]:
        shots = [
            Shot(_points(index, path, index.cloud(row), row), LIGHT.link, *_words(path, name))
            for path, row in zip(group.paths, group.rows, strict=True)
        ]
        strips.append(Strip(shots[: ACROSS + 1], f"{len(group.paths)} alike"))
    shown = f"the first {len(strips)} of " if len(strips) < len(groups) else ""
    return Gallery(strips, f"Near-duplicates: {shown}{len(groups)} groups")


def write_sheet(out: Path, sheet: Gallery) -> Path:
    """Write a sheet as the picture that its suffix says."""
    return write_picture(
        out, lambda: gallery_figure(sheet, LIGHT), lambda: gallery_page(sheet, LIGHT)
    )


def _strips(first: Shot, others: Sequence[Shot]) -> list[Strip]:
    rows = [others[at : at + ACROSS] for at in range(0, len(others), ACROSS)]
    return [Strip([first, *rows[0]] if rows else [first]), *(Strip(row) for row in rows[1:])]


def _words(path: Path, name: Name) -> tuple[str, str]:
    """Name of a file, and its folder as a person knows it."""
    folder = str(Path(name(path)).parent)
    return path.name, "" if folder == "." else folder


def _points(
    index: Index, path: Path, cloud: NDArray[np.float32], row: int | None = None
) -> NDArray[Any]:
    """Many points of a mesh that is as it was when it was read; else those that were kept."""
    if row is not None and stamp_of(path) != tuple(index.stamps[row].tolist()):
        return cloud
    try:
        found = read_cloud_or_mesh(absolute(path))
    except DataError:  # it is gone since, or has changed while it was read
        return cloud
    return dense_points(found, index.up) if isinstance(found, Mesh) else cloud
