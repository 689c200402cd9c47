"""``python -m flows.evaluate MODEL``: the flow in this process."""

from __future__ import annotations

from flows.commands import command_app
from flows.forms.evaluate import EvaluateForm
from flows.launch import make

app = command_app("evaluate", EvaluateForm, make)


def main() -> None:
    """Entry point of ``python -m flows.evaluate``."""
    app(prog_name="python -m flows.evaluate")


if __name__ == "__main__":
    main()
