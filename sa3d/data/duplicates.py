"""Shapes of a source without the copies that would stand on both sides of a split.

- The *same* geometry several times in one class: the first by name stays, the others are merged
  into it.
- Geometry that stands in several classes, same or alike: nothing about the shape says which label
  is right, so all of it is dropped, and so is what is linked to it by a chain of alike shapes.
- Families whose shapes are the same or alike become one family. A mirror image is another shape
  and stays, but in the family of what it mirrors.

:mod:`sa3d.data.geometry` says what same and alike mean; materials count for nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sa3d.data.geometry import Likeness

_EXAMPLES = 20


class Distinct(NamedTuple):
    """What is left of the shapes.

    ``rows``: ascending rows of the shapes that stay. ``families``: the name of the family of each
    of them; joined families take the name that sorts first. ``merged``: each shape that went
    and the one that it is a copy of. ``ambiguous``: one line a shape that went, as its geometry is
    in another class as well. ``joined``: how many families fewer there
    are than names of families.
    """

    rows: NDArray[np.int64]
    families: list[str]
    merged: list[tuple[str, str]]
    ambiguous: list[str]
    joined: int

    def facts(self) -> dict[str, Any]:
        """Entries of the data set's summary."""
        return {
            "merged": len(self.merged),
            "merged_examples": [f"{gone} is {kept}" for gone, kept in self.merged[:_EXAMPLES]],
            "ambiguous": len(self.ambiguous),
            "ambiguous_examples": self.ambiguous[:_EXAMPLES],
            "families_joined": self.joined,
        }


def distinct(
    found: Likeness,
    ids: Sequence[str],
    classes: Sequence[str],
    families: Sequence[str],
    wanted: NDArray[np.bool_],
) -> Distinct:
    """Shapes without copies, and the families they form.

    Args:
        found: which shapes are the same and which alike.
        ids, classes, families: unique name, name of the class and name of the family of every
            shape; a family is of one class.
        wanted: mask of the shapes to look at; the others are as if they were not there.
    """
    by_name = sorted(np.flatnonzero(wanted).tolist(), key=lambda row: ids[row])
    alike: dict[int, list[int]] = defaultdict(list)
    for row in by_name:
        alike[int(found.alike[row])].append(row)
    labels = {number: {classes[row] for row in rows} for number, rows in alike.items()}
    first: dict[int, int] = {}
    clear, rows, merged, ambiguous = [], [], [], []
    for row in by_name:
        number = int(found.alike[row])
        if len(labels[number]) > 1:
            other = next(other for other in alike[number] if classes[other] != classes[row])
            ambiguous.append(f"{ids[row]} is like {ids[other]}")
            continue
        clear.append(row)
        kept = first.setdefault(int(found.same[row]), row)
        if kept == row:
            rows.append(row)
        else:
            merged.append((ids[row], ids[kept]))
    rows.sort()
    # merged shapes join families, too: a shape of both names is one more likeness between them
    family_of = _joined([(families[row], int(found.alike[row])) for row in clear])
    names = [families[row] for row in rows]
    joined = [family_of[name] for name in names]
    fewer = len(set(names)) - len(set(joined))
    return Distinct(np.array(rows, dtype=np.int64), joined, merged, ambiguous, fewer)


def _joined(members: list[tuple[str, int]]) -> dict[str, str]:
    """The name of the joined family that each family becomes part of.

    ``members``: family and number of the alike shapes, of every shape.
    """
    from scipy.cluster.hierarchy import DisjointSet

    families = DisjointSet({family for family, _ in members})
    seen: dict[int, str] = {}
    for family, number in members:
        families.merge(family, seen.setdefault(number, family))
    return {name: min(subset) for subset in families.subsets() for name in subset}
