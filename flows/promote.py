"""``python -m flows.promote MODEL``: the flow in this process."""

from __future__ import annotations

from flows.command_line import say
from flows.commands import command_app
from flows.forms.promote import PromoteForm
from flows.launch import REFUSED, run


def act(name: str, form: PromoteForm) -> int:
    """Let the gate decide, and say what it did; the exit status."""
    found = run(name, form)
    if found["refused"]:
        say(f"sa3d: {found['refused']}")
        return REFUSED
    verdict = found["verdict"]
    if not form.quiet:
        say(found["said"])
    say(verdict["reason"])
    return 0 if verdict["passed"] else 1


app = command_app("promote", PromoteForm, act)


def main() -> None:
    """Entry point of ``python -m flows.promote``."""
    app(prog_name="python -m flows.promote")


if __name__ == "__main__":
    main()
