"""Whether a command exists as it is written: parsed by the program that it names, not run."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from docsite.links import ROOT
from sa3d.config.loading import load_experiment
from sa3d.utils import paths

# programs and words of the shell that this project does not bring; their options are their own
_FOREIGN = {
    *("cd", "cp", "export", "find", "gcc", "git", "gzip", "hostname", "kubectl", "mkdir", "sed"),
    *("set", "ssh", "apt-get", "cat", "docker", ".", "python3.11", "curl"),
}
_TREE = yaml.safe_load((ROOT / "params.yaml").read_text())


class UnknownCommandError(AssertionError):
    """A command that cannot be as it is written."""


def check(words: list[str], made: frozenset[str]) -> None:
    """Parse a command.

    Args:
        words: of the command.
        made: names of experiments and data sets that the page itself makes.

    Raises:
        UnknownCommandError: there is no such command, option, setting, stage or target.
    """
    words = [word.replace("…", "x") for word in words]
    program, rest = words[0].rpartition("/")[2] or words[0], words[1:]
    if program in _FOREIGN:
        return
    if program not in _PROGRAMS:
        raise UnknownCommandError(f"{program}: no program that the documentation may name")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "environ", os.environ.copy())  # options' callbacks set variables
            patch.setattr(paths, "_given", None)
            patch.chdir(ROOT)
            _PROGRAMS[program](rest, made)
    except (typer.Exit, SystemExit) as error:
        raise UnknownCommandError(f"{' '.join(words)}: ended with {error}") from None
    except Exception as error:
        if isinstance(error, UnknownCommandError):
            raise
        raise UnknownCommandError(f"{' '.join(words)}: {error}") from None


def _typer(command: Any, name: str, words: list[str], made: frozenset[str]) -> None:
    """A command line of typer's or click's: every group, option and value is read."""
    context = command.make_context(name, list(words), resilient_parsing=False)
    rest = [*getattr(context, "_protected_args", ()), *context.args]
    if getattr(command, "commands", None) is not None:
        _, inner, more = command.resolve_command(context, rest)
        _typer(inner, inner.name, more, made)
        return
    given = context.params
    experiment = given.get("experiment")
    if "overrides" in given and experiment is not None and experiment not in made:
        load_experiment(experiment, overrides=given["overrides"] or ())


def _sa3d(words: list[str], made: frozenset[str]) -> None:
    from sa3d.cli.main import app

    _typer(typer.main.get_command(app), "sa3d", words, made)


def _flow(module: str, words: list[str], made: frozenset[str]) -> None:
    found = importlib.util.find_spec(module)
    if found is None:
        raise UnknownCommandError(f"python -m {module}: no such module")
    inside = importlib.import_module(
        f"{module}.command" if found.submodule_search_locations else module
    )
    _typer(typer.main.get_command(inside.app), module, words, made)


def _python(words: list[str], made: frozenset[str]) -> None:
    if words[0] == "-c":
        compile(words[1], "-c", "exec")
    elif words[0] == "-m" and words[1] == "sa3d":
        _sa3d(words[2:], made)
    elif words[0] == "-m" and words[1].startswith("flows."):
        _flow(words[1], words[2:], made)
    elif words[0] == "-m":
        spec = importlib.util.find_spec(words[1])
        if spec is None or spec.origin is None:
            raise UnknownCommandError(f"python -m {words[1]}: no such module")
        _script(spec.origin, words[2:])
    else:
        _script(str(ROOT / words[0]), words[1:])


class _ParsedError(Exception):
    """Thrown when a script has read its command line."""


def _script(path: str, words: list[str]) -> None:
    """A script up to where argparse has read its words; one without argparse takes any."""
    if "argparse" not in Path(path).read_text():
        return
    real = argparse.ArgumentParser.parse_args

    def parse_and_stop(self: Any, args: Any = None, namespace: Any = None) -> Any:
        real(self, args, namespace)
        raise _ParsedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
        patch.setattr(sys, "argv", [path, *words])
        with pytest.raises(_ParsedError):
            runpy.run_path(path, run_name="__main__")


def _make(words: list[str], made: frozenset[str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = next(x for x in makefile.splitlines() if x.startswith(".PHONY:")).split()[1:]
    for word in words:
        name, equals, _ = word.partition("=")
        if equals and f"\n{name} ?=" in makefile:
            continue
        if word not in targets:
            raise UnknownCommandError(f"make {word}: no such target")


def _dvc(words: list[str], made: frozenset[str]) -> None:
    from dvc.cli.parser import get_main_parser

    given = get_main_parser().parse_args(words)
    if given.cmd not in ("repro", "run", "commit"):
        return
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for target in given.targets or ():
        stage, _, item = target.partition("@")
        known = {*stages[stage]["foreach"], *made} if stage in stages else ()
        if item not in known:
            raise UnknownCommandError(f"dvc {given.cmd} {target}: no such stage")
    for change in getattr(given, "set_param", ()):
        at: Any = _TREE
        for part in change.partition("=")[0].lstrip("+").split("."):
            if isinstance(at, list):
                at = at[int(part)]
            elif part in at:
                at = at[part]
            elif not change.startswith("++"):
                raise UnknownCommandError(
                    f"dvc exp run -S {change}: params.yaml has no {part} there"
                )


def _torchrun(words: list[str], made: frozenset[str]) -> None:
    from torch.distributed.run import get_args_parser

    given = get_args_parser().parse_args(words)
    assert given.module
    _python(["-m", given.training_script, *given.training_script_args], made)


def _pip(words: list[str], made: frozenset[str]) -> None:
    """That the folders and files that are installed are there."""
    for word in words:
        if word.startswith("./") or word.endswith(".txt"):
            assert (ROOT / word).exists(), word


def _mlflow(words: list[str], made: frozenset[str]) -> None:
    from mlflow.cli import cli

    context = cli.make_context("mlflow", list(words))
    name, inner, more = cli.resolve_command(context, [*context._protected_args, *context.args])
    while getattr(inner, "commands", None) is not None:
        context = inner.make_context(name, more)
        name, inner, more = inner.resolve_command(
            context, [*context._protected_args, *context.args]
        )
    inner.make_context(name, more)


def _prefect(words: list[str], made: frozenset[str]) -> None:
    from prefect.cli._app import _app

    _app.parse_args(
        [word for word in words if word != "--no-prompt"], exit_on_error=False, print_error=False
    )


_PROGRAMS: dict[str, Callable[[list[str], frozenset[str]], None]] = {
    "sa3d": _sa3d,
    "python": _python,
    "make": _make,
    "dvc": _dvc,
    "torchrun": _torchrun,
    "pip": _pip,
    "mlflow": _mlflow,
    "prefect": _prefect,
}
