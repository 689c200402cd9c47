"""``sa3d data add``: a folder of one's own becomes a data set, without code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sa3d.cli.options import Quiet

if TYPE_CHECKING:
    from sa3d.data.sources.folder.settings import FolderSource
    from sa3d.data.sources.folder.source import Survey

_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_PIPELINE = "flows.dvc_pipeline"
_SHOWN = 20


def add(
    folder: Annotated[Path, typer.Argument(help="Folder with your files.")],
    name: Annotated[
        str, typer.Option("--name", help="Of the data set: small letters, digits, - and _.")
    ],
    like: Annotated[
        str | None,
        typer.Option(
            "--like", help="Also add an experiment of that name with the settings of this one."
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A setting of the source, as up=z; may be repeated."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read all files, show what is there, change nothing.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Make a data set of a folder of .obj, .ply, .stl, .pcd, ... files and add it to params.yaml.

    Classes are folders. docs/own_data.md says how a folder may look and what is decided for you.
    """
    from sa3d.data.prepare import origin, record_origin
    from sa3d.data.sources.folder import source as folders
    from sa3d.data.sources.folder.table import table
    from sa3d.utils.paths import params_file, processed

    params = params_file().resolve()
    values = _entry(folder, params, overrides or [])
    source = _checked(name, like, params, values, overrides or [])
    if dry_run:
        survey = folders.inspect(source, quiet=quiet)
        print("\n".join([*table(survey), *survey.warnings(), *_unreadable(survey)]))
        other = "z" if source.up != "z" else "y"
        print(
            f"up={source.up}: {source.up} is taken for the axis that points up in the files; to "
            f"change it, add --set up={other}"
        )
        folders.check_unreadable(source, survey)
        return
    file = processed(name)
    made_from = origin(source)
    survey = folders.build(source, file, quiet=quiet)
    try:
        record_origin(file, made_from)
        notes = _write(params, name, like, values, survey)
    except BaseException:
        for made in (file, file.with_suffix(".json")):
            made.unlink()
        raise
    if not quiet:
        print("\n".join([*table(survey), *survey.warnings(), *_unreadable(survey)]))
        print("\n".join(["", *_next(name, like, survey, notes)]))


def _entry(folder: Path, params: Path, overrides: list[str]) -> dict[str, Any]:
    """What is written under ``datasets``: the folder, and what is not as by default."""
    from sa3d.config.resolve import overridden

    root = params.parent
    written = Path(os.path.abspath(folder.expanduser()))  # noqa: PTH100 - a link in it stays one
    place = written if written.is_relative_to(root) else written.resolve()
    shown = place.relative_to(root) if place.is_relative_to(root) else place
    return dict(overridden({"source": "folder", "root": str(shown)}, overrides))


def _checked(
    name: str, like: str | None, params: Path, values: dict[str, Any], overrides: list[str]
) -> FolderSource:
    """The settings of the new data set, if it can be added.

    Raises:
        ConfigError: a name that is taken or not possible, a setting that is refused, no such
            experiment.
    """
    from sa3d.config.like import NewData, experiment_like
    from sa3d.config.yaml_file import read_value, read_yaml
    from sa3d.errors import ConfigError
    from sa3d.utils.paths import processed, shown

    if not _NAME.fullmatch(name):
        raise ConfigError(f"--name '{name}': small letters, digits, - and _, a letter first")
    if read_value(name) != name:
        raise ConfigError(f"--name '{name}': YAML takes that word for a value; choose another")
    tree = read_yaml(params)
    if name in (tree.get("datasets") or {}):
        raise ConfigError(f"there is a data set '{name}' in {shown(params)}; choose another --name")
    if processed(name).exists():
        raise ConfigError(
            f"{shown(processed(name))} is there already; delete it or choose another --name"
        )
    if like is not None:
        if name in (tree.get("experiments") or {}):
            raise ConfigError(f"there is an experiment '{name}'; choose another --name")
        # only to be told of a wrong --like before files are read
        experiment_like(tree, like, NewData(name, (2, 2), (2, 2), 1, parts=False))
    return _source(name, params, values, overrides)


def _source(name: str, params: Path, values: dict[str, Any], overrides: list[str]) -> FolderSource:
    """The settings as they will be read from the file; what is wrong is told of ``overrides``,
    which ``values`` hold already."""
    from sa3d.config.edit import with_entry
    from sa3d.config.loading import load_source
    from sa3d.data.sources.folder.settings import FolderSource
    from sa3d.errors import ConfigError

    text = with_entry(params.read_text(encoding="utf-8"), "datasets", name, values)
    with tempfile.TemporaryDirectory() as place:
        candidate = Path(place) / params.name
        candidate.write_text(text, encoding="utf-8")
        source = load_source(name, candidate, overrides)
    if not isinstance(source, FolderSource):
        raise ConfigError("--set source=...: `sa3d data add` adds folders; edit params.yaml")
    return source


def _write(
    params: Path, name: str, like: str | None, values: dict[str, Any], survey: Survey
) -> list[str]:
    """``params.yaml`` and ``dvc.yaml`` with the new entries; both as before if one is refused.

    Returns:
        What the new experiment does otherwise than the one that it is like.
    """
    from sa3d.config.edit import with_entry
    from sa3d.config.like import NewData, experiment_like
    from sa3d.config.loading import load_experiment
    from sa3d.config.yaml_file import read_yaml
    from sa3d.data.store import TEST, TRAIN
    from sa3d.utils.files import write_whole

    notes: list[str] = []
    before = params.read_bytes()
    text = with_entry(before.decode(), "datasets", name, values)
    if like is not None:
        experiment, notes = experiment_like(
            read_yaml(params),
            like,
            NewData(
                name,
                survey.class_clouds(TRAIN),
                survey.class_clouds(TEST),
                survey.least_points,
                parts=bool(survey.plan.part_values),
            ),
        )
        text = with_entry(text, "experiments", name, experiment, gap=True)
    write_whole(params, text.encode())
    try:
        if like is not None:
            load_experiment(name, params)
        _write_pipeline(params.parent)
    except BaseException:
        write_whole(params, before)
        raise
    return notes


def _write_pipeline(root: Path) -> None:
    """``dvc.yaml`` as ``python -m flows.dvc_pipeline`` writes it.

    A process of its own: flows build on this package, not the other way round.
    """
    from sa3d.errors import ConfigError

    done = subprocess.run(
        [sys.executable, "-m", _PIPELINE], cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise ConfigError(
            f"dvc.yaml could not be written (python -m {_PIPELINE}): "
            f"{said[-1] if said else f'status {done.returncode}'}; params.yaml is as it was"
        )


def _unreadable(survey: Survey) -> list[str]:
    lines = [f"unreadable: {o.file.place}: {o.reason}" for o in survey.unreadable[:_SHOWN]]
    more = len(survey.unreadable) - len(lines)
    return [*lines, f"and {more} more"] if more else lines


def _next(name: str, like: str | None, survey: Survey, notes: list[str]) -> list[str]:
    """What a person does next."""
    lines = [
        f"Data set '{name}' is prepared, and is in params.yaml and dvc.yaml.",
        f"  dvc commit --force prepare@{name}    DVC notes that it is made, and does not repeat it",
    ]
    if like is not None:
        lines.append(f"  dvc repro experiment@{name}          a report: reports/{name}/report.html")
        if notes:
            lines += [f"Experiment '{name}' is as '{like}', but for:", *(f"  {n}" for n in notes)]
        return lines
    lines += [
        "Use it in an experiment of params.yaml, as the data of pre-training or of an evaluation:",
        f"  data: {{name: {name}, points: {min(1024, survey.least_points)}}}",
        "and write dvc.yaml again: python -m flows.dvc_pipeline. For one run without an edit:",
        f"  sa3d pretrain -e demo --set pretrain.data.name={name}",
        "With --like EXPERIMENT this command would have added such an experiment itself.",
    ]
    return lines
