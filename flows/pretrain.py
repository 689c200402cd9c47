"""``python -m flows.pretrain NAME``: the flow in this process."""

from __future__ import annotations

from flows.commands import command_app
from flows.forms.pretrain import PretrainForm
from flows.launch import make

app = command_app("pretrain", PretrainForm, make)


def main() -> None:
    """Entry point of ``python -m flows.pretrain``."""
    app(prog_name="python -m flows.pretrain")


if __name__ == "__main__":
    main()
