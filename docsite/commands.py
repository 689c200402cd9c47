"""The reference of commands, read from the command lines themselves."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from enum import Enum
from typing import Any, Final, NamedTuple

import flows
from docsite.links import ROOT

_TARGET: Final = re.compile(r"^([a-z-]+):[^#\n]*## (.*)$", re.MULTILINE)


class Program(NamedTuple):
    """Something to be typed: its words, and typer's object for it."""

    words: str
    command: Any

    @property
    def slug(self) -> str:
        """For names of files."""
        return self.words.removeprefix("python -m ").replace(" ", "-").replace(".", "-")


def programs() -> list[Program]:
    """Every command: those of ``sa3d``, then the flows."""
    import typer

    from sa3d.cli.main import app

    sa3d = typer.main.get_command(app)
    found = [Program(f"sa3d {name}", each) for name, each in _commands(sa3d).items()]
    return found + [Program(f"python -m {m}", typer.main.get_command(a)) for m, a in _flows()]


def _flows() -> Iterator[tuple[str, Any]]:
    """The modules of ``flows`` that are commands, with their typer applications."""
    for info in pkgutil.iter_modules(flows.__path__, "flows."):
        path = ROOT / info.name.replace(".", "/")
        name = f"{info.name}.command" if info.ispkg else info.name
        source = path / "command.py" if info.ispkg else path.with_suffix(".py")
        if source.is_file() and '__name__ == "__main__"' in source.read_text(encoding="utf-8"):
            app = getattr(importlib.import_module(name), "app", None)
            if app is not None:
                yield info.name, app


def _commands(command: Any) -> dict[str, Any]:
    """What a group holds; nothing, of a command."""
    return getattr(command, "commands", {})


def page(program: Program) -> str:
    """Usage, arguments and options of a command; of a group, of everything in it."""
    lines = [f"# `{program.words}`", "", *_section(program.words, program.command)]
    for name, each in _commands(program.command).items():
        words = f"{program.words} {name}"
        lines += [f"## `{words}`", "", *_section(words, each)]
    return "\n".join(lines)


def _section(words: str, command: Any) -> list[str]:
    lines = [_said(command), ""]
    if _commands(command):
        return lines
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    usage = " ".join([words, "[OPTIONS]" if options else "", *map(_usage, arguments)])
    lines += ["```text", re.sub(" +", " ", usage).strip(), "```", ""]
    if arguments:
        rows = [f"| `{_metavar(each)}` | {_cell(each.help)} |" for each in arguments]
        lines += ["| argument | meaning |", "|---|---|", *rows, ""]
    if options:
        rows = [f"| {_names(each)} | {_default(each)} | {_cell(_help(each))} |" for each in options]
        lines += ["| option | default | meaning |", "|---|---|---|", *rows, ""]
    return lines


def _said(command: Any) -> str:
    return re.sub(r"(?<!\n)\n(?!\n)", " ", (command.help or "").strip())


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _usage(argument: Any) -> str:
    text = _metavar(argument)
    text = text if argument.nargs == 1 or text.endswith("...") else f"{text}..."
    return text if argument.required or text.startswith("[") else f"[{text}]"


def _names(option: Any) -> str:
    metavar = "" if option.is_flag else f" {option.metavar or _kind(option)}"
    return ", ".join(f"`{name}{metavar if name[:2] == '--' else ''}`" for name in option.opts)


def _kind(option: Any) -> str:
    kind = option.type_descriptor.annotation
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "\\|".join(str(each.value) for each in kind)
    chosen = getattr(kind, "__args__", None) if "Literal" in str(kind) else None
    if chosen:
        return "\\|".join(map(str, chosen))
    return {"Path": "PATH", "int": "INTEGER", "float": "NUMBER"}.get(
        getattr(kind, "__name__", ""), "TEXT"
    )


def _help(option: Any) -> str:
    """Its help without a default that is told there: that has a column of its own."""
    return re.sub(r"\s*\[default: [^\]]*\]", "", option.help or "")


def _default(option: Any) -> str:
    told = re.search(r"\[default: ([^\]]*)\]", option.help or "")
    if told:
        return _cell(told[1])
    if option.required:
        return "required"
    value = option.default.value if isinstance(option.default, Enum) else option.default
    return "" if value in (None, "", False, [], ()) else f"`{value}`"


def _cell(text: str | None) -> str:
    """Text for a table's cell: ``|`` would end it, and ``*`` begin emphasis."""
    return (text or "").replace("|", "\\|").replace("*", "\\*").replace("\n", " ")


def make_page() -> str:
    """The targets of the Makefile."""
    targets = _TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8"))
    rows = [f"| `make {name}` | {_cell(said)} |" for name, said in targets]
    return "\n".join(
        [
            "# `make`",
            "",
            "In the project's folder. `make` alone lists them.",
            "",
            "| target | what it does |",
            "|---|---|",
            *rows,
            "",
        ]
    )
