"""``python -m flows.ablation NAME``: the flow in this process."""

from __future__ import annotations

from flows.commands import command_app
from flows.forms.ablation import AblationForm
from flows.launch import make

app = command_app("ablation", AblationForm, make)


def main() -> None:
    """Entry point of ``python -m flows.ablation``."""
    app(prog_name="python -m flows.ablation")


if __name__ == "__main__":
    main()
