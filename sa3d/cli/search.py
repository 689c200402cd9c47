"""``sa3d index`` and ``sa3d search``: the parts of a folder that look like a given one."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sa3d.cli.options import Quiet
from sa3d.cli.words import Up, tell, watched
from sa3d.errors import UserError

if TYPE_CHECKING:
    from sa3d.inference.clouds import Failure
    from sa3d.inference.index import Index
    from sa3d.inference.neighbours import Answer, Group


def index(
    words: Annotated[
        list[str],
        typer.Argument(metavar="DIR...", help="Folders; also files and patterns, as 'a/**/*.stl'."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Index file. [default: DIR/.sa3d-index.npz, of a single DIR]"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Run folder of a pre-training, its `model` folder, or models:/NAME@ALIAS. "
            "[default: that of the index that is there, else the encoder of this program]",
        ),
    ] = None,
    up: Annotated[
        Up | None,
        typer.Option("--up", help="The axis of the files that points up. [default: as before; y]"),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Make a folder of shapes searchable.

    An index that is there is brought up to date: only files that are new or have changed are
    read.

    Exit status: 0; 1, some files could not be read and are named; 2, nothing was written.
    """
    from sa3d.inference.indexing import place_of

    place = out or place_of(words)
    found = _up_to_date(words, place, model, up, quiet)
    if not quiet:
        print(f"{place}: {_count(len(found), 'shape')}{_changes(found)}")
    if found.change.failures:
        sys.exit(1)


def search(
    where: Annotated[
        Path,
        typer.Argument(
            metavar="INDEX",
            help="Index file, or a folder: its index is brought up to date first.",
        ),
    ],
    queries: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="QUERY...",
            help="What to look for: files, patterns, folders, or - for names on standard input.",
        ),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Nearest shapes of each query.")] = 5,
    sheet: Annotated[
        Path | None,
        typer.Option("--sheet", help="Draw the queries and what was found: .png, .svg or .html."),
    ] = None,
    duplicates: Annotated[
        bool,
        typer.Option("--duplicates", help="List the near-duplicates within the index."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Find the shapes of a folder that look like a given one.

    Exit status: 0; 1, some files could not be read and are named; 2, there is no answer.
    """
    from sa3d.inference.index import open_index

    if bool(queries) == duplicates:
        raise UserError("give a QUERY, a file to look for, or --duplicates")
    if sheet is not None:
        from sa3d.viz.files import check_picture

        check_picture(sheet, "--sheet")
    failures: tuple[Failure, ...] = ()
    if where.is_dir():
        from sa3d.inference.index import NAME

        opened = _up_to_date([str(where)], where / NAME, None, None, quiet)
        failures = opened.change.failures
        if opened.change.any and not quiet:
            print(f"{where / NAME}: {_count(len(opened), 'shape')}{_changes(opened)}\n",
                  file=sys.stderr)  # fmt: skip
    else:
        opened = open_index(where)
    if duplicates:
        _say_duplicates(opened, sheet, as_json, quiet)
    else:
        failures += _say_nearest(opened, queries or [], top, sheet, as_json, quiet)
    if failures:
        sys.exit(1)


def _up_to_date(
    words: Sequence[str], place: Path, model: str | None, up: Up | None, quiet: bool
) -> Index:
    """The index, brought up to date; what could not be read is told."""
    from sa3d.inference.indexing import build_index
    from sa3d.utils.places import check_writable

    check_writable(place.absolute().parent, "`sa3d index DIR --out INDEX.npz`")
    found = build_index(
        words,
        place,
        model=model,
        up=None if up is None else up.value,
        watch=watched("index", "shapes", quiet),
    )
    tell(found.change.failures)
    return found


def _changes(index: Index) -> str:
    change = index.change
    counts = {"new": change.new, "changed": change.changed, "gone": change.gone}
    said = [f"{count} {what}" for what, count in counts.items() if count]
    if change.failures:
        said.append(f"{len(change.failures)} could not be read")
    if change.anew:
        said.append(f"all read again, as {change.anew}")
    return f" ({', '.join(said)})" if said else " (nothing has changed)"


# --- answers -------------------------------------------------------------------------------


def _say_nearest(
    index: Index, words: Sequence[str], top: int, sheet: Path | None, as_json: bool, quiet: bool
) -> tuple[Failure, ...]:
    from sa3d.inference import neighbours
    from sa3d.inference.inputs import expand

    files, missing = expand(words, sys.stdin)
    found = neighbours.search(index, files, top=top, watch=watched("search", "queries", quiet))
    failures = (*missing, *found.failures)
    tell(failures)
    if not found.answers:
        sys.exit(UserError.exit_code)
    if as_json:
        print(json.dumps([_answer_tree(answer) for answer in found.answers], indent=2))
    else:
        print("\n\n".join(_answer_text(answer) for answer in found.answers))
    if sheet is not None:
        from sa3d.inference.sheet import nearest_sheet, write_sheet

        write_sheet(sheet, nearest_sheet(index, found.answers, _name))
        _say_written(sheet, as_json, quiet)
    return failures


def _say_duplicates(index: Index, sheet: Path | None, as_json: bool, quiet: bool) -> None:
    from sa3d.inference import neighbours

    groups = neighbours.duplicates(index, watch=watched("duplicates", "shapes", quiet))
    if as_json:
        print(json.dumps([[os.fspath(path) for path in group.paths] for group in groups], indent=2))
    else:
        print(_groups_text(groups, len(index)))
    if sheet is not None and groups:
        from sa3d.inference.sheet import duplicates_sheet, write_sheet

        write_sheet(sheet, duplicates_sheet(index, groups, _name))
        _say_written(sheet, as_json, quiet)


def _say_written(place: Path, as_json: bool, quiet: bool) -> None:
    if not quiet:
        print(f"\n{place}", file=sys.stderr if as_json else sys.stdout)


def _answer_text(answer: Answer) -> str:
    lines = [f"{_name(answer.query)} looks like", "", "rank  similarity  file"]
    lines += [f"{n.rank:4}  {n.similarity:10.3f}  {_name(n.path)}" for n in answer.nearest]
    return "\n".join(lines)


def _answer_tree(answer: Answer) -> dict[str, Any]:
    nearest = [
        {"rank": near.rank, "similarity": round(near.similarity, 4), "path": os.fspath(near.path)}
        for near in answer.nearest
    ]
    return {"query": os.fspath(answer.query), "nearest": nearest}


def _groups_text(groups: Sequence[Group], total: int) -> str:
    if not groups:
        return f"no near-duplicates among {_count(total, 'shape')}"
    several = sum(len(group.paths) for group in groups)
    lines = [
        f"{several} of {_count(total, 'shape')} have near-duplicates, in "
        f"{_count(len(groups), 'group')} (size does not count)"
    ]
    for number, group in enumerate(groups, start=1):
        lines += ["", f"group {number}: {_count(len(group.paths), 'shape')}"]
        lines += [f"  {_name(path)}" for path in group.paths]
    return "\n".join(lines)


def _name(path: Path) -> str:
    """A path as a person types it here: from this folder, if it lies below."""
    here = Path.cwd()
    shown = path.relative_to(here) if path.is_absolute() and path.is_relative_to(here) else path
    return os.fsencode(shown).decode("utf-8", "backslashreplace")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
