"""What the commands ``python -m flows.…`` share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from sa3d.errors import ConfigError, UserError
from sa3d.utils.files import write_whole
from sa3d.utils.places import refusal


class Command(TyperCommand):
    """Turns what ends the command early into a message and an exit status, as ``sa3d`` does."""

    def invoke(self, ctx: Any) -> Any:
        """See the base class."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            say(f"sa3d: {error}")
            sys.exit(error.exit_code)
        except OSError as error:
            said = refusal(error)
            if said is None:
                raise
            say(f"sa3d: {said}")
            sys.exit(UserError.exit_code)
        except KeyboardInterrupt:  # before the flow listens for it, or after
            sys.exit(130)


def plain_app() -> typer.Typer:
    """An application of one command."""
    return typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # plain help: rich costs a third of a second
    )


def say(text: str) -> None:
    """Tell the user, at once and beside the output proper."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def write_or_check(path: Path, text: str, command: str, *, check: bool) -> None:
    """Write a file that is made from ``params.yaml``, or only look whether it still fits.

    Args:
        path: of the file.
        text: what it has to say.
        command: that writes it.
        check: write nothing.

    Raises:
        ConfigError: it was only looked at, and does not fit. WriteError: it cannot be written.
    """
    if not check:
        write_whole(path, text.encode())
    elif not path.is_file() or path.read_text(encoding="utf-8") != text:
        raise ConfigError(f"{path} does not fit params.yaml; write it again: {command}")
