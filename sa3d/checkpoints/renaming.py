"""Published names to ours and back, by the rows of a layout; and which layout a file has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from torch import Tensor

from sa3d import registry
from sa3d.errors import CheckpointError
from sa3d.models.official import Layout, Row

Side = Literal["theirs", "ours"]


@dataclass(frozen=True)
class Renamed:
    """Tensors by their other names, and the old names for which a layout has no row."""

    state: dict[str, Tensor]
    unknown: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Published names: what a file has of what a model of its layout has."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]  # with both shapes


@dataclass(frozen=True)
class Leniency:
    """What may be wrong with a file.

    Attributes:
        missing: patterns of published names that it may lack.
        strict: False: it may lack any, and have tensors for which there is no place.
    """

    missing: tuple[str, ...] = ()
    strict: bool = True

    def check(self, what: str, found: Comparison) -> None:
        """Refuse what is not allowed.

        Raises:
            CheckpointError: beginning with ``what``; names the first tensors of each kind.
        """
        wrong, remedies = [], []
        if found.misshapen:  # never allowed: these are weights of another model
            wrong.append(f"has {some(found.misshapen)}")
        lacking = [name for name in found.missing if not self.may_lack(name)]
        if lacking:
            wrong.append(f"lacks {some(lacking)}")
            remedies.append("--allow-missing PATTERN lets it lack those")
        if found.unexpected and self.strict:
            wrong.append(f"has {some(found.unexpected)}, for which there is no place")
            remedies.append("--no-strict leaves out what has no place")
        if wrong:
            remedy = f". {'; '.join(remedies)}" if remedies else ""
            raise CheckpointError(f"{what} {'; it '.join(wrong)}{remedy}")

    def may_lack(self, name: str) -> bool:
        """Whether a tensor may be missing."""
        return not self.strict or any(fnmatchcase(name, pattern) for pattern in self.missing)


def some(names: Iterable[str], shown: int = 3) -> str:
    """The first few names and how many more there are."""
    names = list(names)
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def layouts() -> dict[str, tuple[str, Layout]]:
    """Every layout by its name, with the backbone that it belongs to."""
    return {
        layout.name: (backbone, layout)
        for backbone, architecture in registry.BACKBONES.items()
        if architecture.official is not None
        for layout in registry.load_at(architecture.official)
    }


def recognise(
    names: Iterable[str], side: Side, candidates: Mapping[str, tuple[str, Layout]]
) -> str | None:
    """The layout that fits tensor names best; None: most of them fit none.

    Counted against a layout are names that it has no row for, and rows without a name. Of equals
    the first is taken.
    """
    names = list(names)
    best: tuple[int, str] | None = None
    for name, (_, layout) in candidates.items():
        places = [_place(layout.rows, each, side) for each in names]
        unknown = places.count(None)
        idle = sum(
            place not in places
            for place, row in enumerate(layout.rows)
            if row.ours not in layout.unused
        )
        if 2 * unknown < len(names) and (best is None or unknown + idle < best[0]):
            best = unknown + idle, name
    return best and best[1]


def to_ours(state: Mapping[str, Tensor], layout: Layout) -> Renamed:
    """Published tensors by our names and in our shapes."""
    found: dict[str, Tensor] = {}
    unknown: list[str] = []
    for name, value in state.items():
        place = _place(layout.rows, name, "theirs")
        if place is None:
            unknown.append(name)
        else:
            row = layout.rows[place]
            found[row.ours + name[len(row.theirs) :]] = row.to_ours(value)
    return Renamed(found, tuple(unknown))


def to_theirs(state: Mapping[str, Tensor], layout: Layout) -> Renamed:
    """The inverse of :func:`to_ours`, in the order of the layout's rows."""
    found: list[tuple[int, str, Tensor]] = []
    unknown: list[str] = []
    for name, value in state.items():
        place = _place(layout.rows, name, "ours")
        if place is None:
            unknown.append(name)
        else:
            row = layout.rows[place]
            found.append((place, row.theirs + name[len(row.ours) :], row.to_theirs(value)))
    found.sort(key=lambda each: each[0])
    return Renamed({name: value for _, name, value in found}, tuple(unknown))


def compare(given: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Comparison:
    """Published tensors with those that a model of the layout has, by name and shape."""
    misshapen = [
        f"{name} {tuple(value.shape)} instead of {tuple(expected[name].shape)}"
        for name, value in given.items()
        if name in expected and value.shape != expected[name].shape
    ]
    return Comparison(
        tuple(name for name in given if name in expected),
        tuple(name for name in expected if name not in given),
        tuple(name for name in given if name not in expected),
        tuple(misshapen),
    )


def _place(rows: Sequence[Row], name: str, side: Side) -> int | None:
    """Which row a tensor belongs to: its name is the row's, or begins with it and a dot."""
    for place, row in enumerate(rows):
        start: str = getattr(row, side)
        if name == start or name.startswith(f"{start}."):
            return place
    return None
