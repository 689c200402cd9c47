"""What lies near what in an index: similar shapes, and near-duplicates.

Similarity is the cosine of two rows of features. Of an index of :data:`ENOUGH` shapes or more the
features are first standardised by the mean and the deviation of its own rows; docs/search.md has
the measurements behind this and behind :data:`SAME`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sa3d.inference.clouds import Failure
from sa3d.inference.index import (
    UNIT,
    Floats,
    Index,
    Model,
    absolute,
    check_encoder,
    id_of,
    kept,
    stamp_of,
)  # fmt: skip

ENOUGH: Final = 10
"""Shapes in an index from which on its features are standardised."""
SAME: Final = 1.05
"""Near-duplicates' points lie, on average, no farther from each other's than this multiple of the
distance between neighbouring points of one of them."""
BOX: Final = 0.05
"""Nor may the sides of their bounding boxes differ by more than this, in radii of the shape."""
CANDIDATES: Final = 16
"""The most similar shapes of each, whose geometry is compared with it."""


class Near(NamedTuple):
    """A shape that a search found; ``row`` is its place in the index."""

    rank: int
    similarity: float
    path: Path
    row: int


@dataclass(frozen=True)
class Answer:
    """What is near a query; ``cloud`` (P, 3) are the points of the query, for a picture."""

    query: Path
    nearest: tuple[Near, ...]
    cloud: Floats


@dataclass(frozen=True)
class Found:
    """Answers, in the order of the queries that could be read, and the others."""

    answers: tuple[Answer, ...]
    failures: tuple[Failure, ...]


class Group(NamedTuple):
    """Near-duplicates; ``rows`` are their places in the index."""

    paths: tuple[Path, ...]
    rows: tuple[int, ...]


class Space:
    """Where distances between rows of features are measured: standardised, where that helps."""

    def __init__(self, features: Floats) -> None:
        width = features.shape[1]
        self._mean, self._spread = np.zeros(width), np.ones(width)
        if len(features) >= ENOUGH:
            self._mean = features.mean(axis=0, dtype=np.float64)
            spread = features.std(axis=0, dtype=np.float64)
            self._spread = np.where(spread > 0, spread, 1.0)

    def of(self, features: Floats) -> Floats:
        """Rows in that space."""
        return ((features - self._mean) / self._spread).astype(np.float32)


def search(
    index: Index,
    queries: Sequence[Path],
    *,
    top: int = 5,
    watch: Callable[[Sequence[Path]], Iterable[Path]] = iter,
) -> Found:
    """The shapes that are most similar to those of files.

    A file that is itself in the index is not among its own neighbours, and if it has not changed
    its features are taken from there.

    Args:
        index: what is searched.
        queries: files.
        top: how many neighbours of each.
        watch: gets the files that are to be read and gives them back one by one.

    Raises:
        CheckpointError: the encoder of the index is gone, or has other weights now.
    """
    model = Model(index.model)
    check_encoder(index, model)
    rows = {path: row for row, path in enumerate(index.paths)}
    known = {query: rows[absolute(query)] for query in queries if _unchanged(index, rows, query)}
    features = {query: index.features[row] for query, row in known.items()}
    clouds = {query: index.cloud(row) for query, row in known.items()}
    failures: tuple[Failure, ...] = ()
    others = [query for query in queries if query not in known]
    if others:
        seen: list[NDArray[np.int16]] = []
        found = model.encoder.embed_all(
            watch(others), up=index.up, seen=lambda points: seen.append(kept(points))
        )
        failures = found.failures
        names = {id_of(query): query for query in others}
        read = [names[name] for name in found.ids]
        points = np.concatenate(seen) if seen else np.zeros((0, 0, 3), np.int16)
        features |= dict(zip(read, found.features, strict=True))
        clouds |= {
            query: cloud.astype(np.float32) / UNIT
            for query, cloud in zip(read, points, strict=True)
        }
    asked = [query for query in dict.fromkeys(queries) if query in features]
    if not asked:
        return Found((), failures)
    stacked = np.stack([features[query] for query in asked])
    similarity, order = _nearest(index, stacked, top + 1)
    answers = []
    for at, query in enumerate(asked):
        own = rows.get(absolute(query))
        pairs = [
            (float(value), int(row))
            for value, row in zip(similarity[at], order[at], strict=True)
            if row != own
        ]
        nearest = tuple(
            Near(rank, value, index.paths[row], row)
            for rank, (value, row) in enumerate(pairs[:top], start=1)
        )
        answers.append(Answer(query, nearest, clouds[query]))
    return Found(tuple(answers), failures)


def _unchanged(index: Index, rows: dict[Path, int], query: Path) -> bool:
    row = rows.get(absolute(query))
    if row is None:
        return False
    return stamp_of(query) == tuple(index.stamps[row].tolist())


def _nearest(index: Index, features: Floats, top: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Similarities (Q, T) and rows (Q, T) of the nearest, best first; exact."""
    from sklearn.neighbors import NearestNeighbors

    space = Space(index.features)
    fitted = NearestNeighbors(metric="cosine", algorithm="brute").fit(space.of(index.features))
    distance, rows = fitted.kneighbors(space.of(features), min(top, len(index)))
    return np.clip(1.0 - distance, -1.0, 1.0), rows


def duplicates(index: Index, watch: Callable[[Sequence[int]], Iterable[int]] = iter) -> list[Group]:
    """Groups of shapes that cannot be told apart by the points that are kept of them.

    The most similar ones by features are compared point by point, all of a group with its first.
    Size counts for nothing; how a shape lies does.

    Args:
        index: what is looked through.
        watch: gets the rows and gives them back one by one, to show progress.
    """
    _, near = _nearest(index, index.features, CANDIDATES + 1)
    shapes = Shapes(index)
    taken: set[int] = set()
    found = []
    for row in watch(range(len(index))):
        if row in taken:
            continue
        alike = [
            other
            for other in near[row].tolist()
            if other > row and other not in taken and shapes.same(row, other)
        ]
        if alike:
            found.append([row, *sorted(alike)])
            taken.update(alike)
    found.sort(key=lambda rows: (-len(rows), rows))
    return [Group(tuple(index.paths[row] for row in rows), tuple(rows)) for rows in found]


class Shapes:
    """The geometry of the shapes of an index, compared in pairs."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._trees: dict[int, tuple[Floats, Any, float]] = {}

    def same(self, one: int, other: int) -> bool:
        """Whether the points that are kept could be those of one shape."""
        first, second = self._index.points[one], self._index.points[other]
        if np.array_equal(first, second):
            return True
        sides = (np.ptp(first.astype(np.int64), axis=0), np.ptp(second.astype(np.int64), axis=0))
        if np.abs(sides[0] - sides[1]).max() > BOX * UNIT:
            return False
        return self.apart(one, other) <= SAME

    def apart(self, one: int, other: int) -> float:
        """Mean distance of the points of either shape to the nearest of the other, as a multiple
        of the mean distance between neighbouring points of one of them (the larger one)."""
        points, tree, spacing = self._tree(one)
        others, other_tree, other_spacing = self._tree(other)
        there, back = tree.query(others)[0].mean(), other_tree.query(points)[0].mean()
        return float((there + back) / 2 / max(spacing, other_spacing))

    def _tree(self, row: int) -> tuple[Floats, Any, float]:
        from scipy.spatial import cKDTree

        if row not in self._trees:
            points = np.unique(self._index.cloud(row), axis=0)  # a small cloud repeats its points
            tree = cKDTree(points)
            self._trees[row] = (points, tree, float(tree.query(points, k=2)[0][:, 1].mean()))
        return self._trees[row]
