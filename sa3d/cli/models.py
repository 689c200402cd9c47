"""``sa3d promote``, ``sa3d rollback`` and ``sa3d lineage``: registered models."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sa3d.cli.options import Params

if TYPE_CHECKING:
    from sa3d.tracking.ancestry import Ancestry
    from sa3d.tracking.verdict import Verdict

_MARKS: Final = {"holds": "ok", "wrong": "WRONG", "unknown": "?"}
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def add_commands(app: typer.Typer) -> None:
    """Make the commands of this module."""
    for command in (promote, rollback, lineage):
        app.command()(command)


def promote(
    model: Annotated[
        str,
        typer.Argument(metavar="NAME[@ALIAS|/VERSION]", help="By default NAME@candidate is meant."),
    ],
    params: Params = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    as_json: Json = False,
) -> None:
    """Make a registered model the champion, if the gate lets it pass.

    The rules are `gate` in params.yaml. Exit status: 0, it is the champion (--dry-run: it would
    pass); 1, the gate refused; 2, nothing could be judged.
    """
    from sa3d.tracking import gate, keys
    from sa3d.tracking.versions import reference

    name, which = reference(model, keys.CANDIDATE)
    verdict = gate.promote(name, which, params=params, dry_run=dry_run)
    if as_json:
        print(json.dumps(verdict.as_json(), indent=2))
    else:
        print("\n".join(_told(verdict, dry_run)))
    sys.exit(0 if verdict.passed else 1)


def rollback(
    name: Annotated[str, typer.Argument(help="Of the registered model.")],
    as_json: Json = False,
) -> None:
    """Make the champion before the champion again."""
    from sa3d.tracking import gate, keys
    from sa3d.tracking.versions import reference

    before, now = gate.rollback(reference(name, keys.CHAMPION)[0])
    if as_json:
        print(json.dumps({"name": name, "rolled_back": before, "champion": now}, indent=2))
    else:
        print(f"{name}: champion is version {now} again, no longer version {before}")


def lineage(
    what: Annotated[
        str,
        typer.Argument(
            metavar="NAME[@ALIAS|/VERSION]|FOLDER|results.json",
            help="A registered model (NAME alone: its champion), a run folder, or an experiment's "
            "results.json.",
        ),
    ],
    as_json: Json = False,
) -> None:
    """Show where a model or a run comes from, and check it.

    Exit status: 0; 1, something here is not as it was noted; 2, nothing could be read.
    """
    from sa3d.tracking.ancestry import trace

    found = trace(what)
    if as_json:
        print(json.dumps([each.as_json() for each in found], indent=2))
    else:
        print("\n".join(line for each in found for line in _tree(each)))
    sys.exit(1 if any(each.wrong for each in found) else 0)


def _told(verdict: Verdict, dry_run: bool) -> Iterator[str]:
    version = f"{verdict.name} version {verdict.version}"
    if verdict.champion == verdict.version:
        yield f"{version} is the champion already"
        return
    if verdict.moved:
        after = f", after version {verdict.champion}" if verdict.champion else ", the first one"
        yield f"{version} is the champion{after}"
    elif verdict.passed and dry_run:
        yield f"{version} would pass"
    elif not verdict.passed:
        yield f"{version} {'would not' if dry_run else 'does not'} pass"
    yield verdict.reason
    yield from (f"note: {note}" for note in verdict.notes)


def _tree(step: Ancestry, role: str = "", indent: str = "") -> Iterator[str]:
    yield f"{indent}{role}{step.what}"
    indent += "  "
    for key, value in step.facts.items():
        yield f"{indent}{key:<15} {value}"
    for finding in step.findings:
        yield f"{indent}{_MARKS[finding.state]:<15} {finding.text}"
    if step.settings:
        yield f"{indent}settings"
        for key, value in step.settings.items():
            yield f"{indent}  {key} = {json.dumps(value)}"
    for kind, parent in step.parents.items():
        yield from _tree(parent, f"{kind}: ", indent)
