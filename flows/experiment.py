"""``python -m flows.experiment NAME``: the flow in this process."""

from __future__ import annotations

from flows.commands import command_app
from flows.forms.experiment import ExperimentForm
from flows.launch import make

app = command_app("experiment", ExperimentForm, make)


def main() -> None:
    """Entry point of ``python -m flows.experiment``."""
    app(prog_name="python -m flows.experiment")


if __name__ == "__main__":
    main()
