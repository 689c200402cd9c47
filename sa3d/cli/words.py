"""What commands that take clouds have in common: their words, progress and exit statuses."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from sa3d.errors import UserError

if TYPE_CHECKING:
    from sa3d.inference.clouds import Failure

_Each = TypeVar("_Each")


class Up(StrEnum):
    """The axis that points up."""

    X = "x"
    Y = "y"
    Z = "z"


UpAxis = Annotated[Up, typer.Option("--up", help="The axis of the files that points up.")]


def files_of(words: Sequence[str]) -> tuple[list[Path], list[Failure]]:
    """The files that words mean, standard input included, and the words that mean none.

    Raises:
        UserError: there is neither.
    """
    from sa3d.inference.inputs import expand

    files, missing = expand(words, sys.stdin)
    if not files and not missing:
        raise UserError("no cloud was given: name files, folders or patterns, or - for a list")
    return files, missing


def watched(label: str, unit: str, quiet: bool) -> Callable[[Sequence[_Each]], Iterator[_Each]]:
    """Goes through a list and shows how far it is: each item counts as done when the next one is
    asked for."""
    from sa3d.utils.progress import ProgressBar

    def through(items: Sequence[_Each]) -> Iterator[_Each]:
        with ProgressBar(label, len(items), unit, quiet=quiet) as bar:
            for item in items:
                yield item
                bar.update()

    return through


def tell(failures: Iterable[Failure]) -> None:
    """What could not be read, a line each, on standard error."""
    for failure in failures:
        print(f"sa3d: {failure.reason}", file=sys.stderr)


def leave(failures: Sequence[Failure]) -> None:
    """End with status 1 if some clouds could not be read."""
    if failures:
        print(f"sa3d: {len(failures)} could not be read, as told above", file=sys.stderr)
        sys.exit(1)
