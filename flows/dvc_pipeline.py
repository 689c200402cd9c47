"""``python -m flows.dvc_pipeline``: ``dvc.yaml``, written from ``params.yaml``.

What a stage depends on follows from the settings: the data sets that an experiment names, the
recipes that it uses. DVC's templates cannot follow a recipe, so the lists are written here and
``make check`` (``--check``) finds a file that no longer fits.

DVC names a stage ``experiment@NAME`` only where one template serves all experiments. A template
has a fixed number of places; an experiment with fewer data sets or parameters repeats its last
one. DVC takes a repeated parameter as one and lists a repeated file twice in ``dvc.lock``.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

import sa3d
from flows.command_line import Command, plain_app, write_or_check
from sa3d import registry
from sa3d.config.experiment import CheckpointVariant, ExperimentConfig
from sa3d.config.loading import (
    endless_names,
    experiment_names,
    load_experiment,
    load_source,
    source_names,
)
from sa3d.config.resolve import used_recipes
from sa3d.config.yaml_file import read_yaml
from sa3d.errors import ConfigError

WRITE = "python -m flows.dvc_pipeline"
HEADER = f"""\
# Data and results: what depends on what. A stage runs only when something it names has changed.
#   dvc repro experiment@demo    one experiment, with the data that it needs
#   dvc repro -k                 all that there is raw data for
#
# Written from params.yaml by `{WRITE}`; change params.yaml and write it again.
#
# `experiment` is one stage: the flow inside it runs the training steps side by side, which DVC
# cannot, and resumes each by its fingerprint. Checkpoints lie in work/, outside DVC, which
# would hand one experiment's to the next. Results are small and not cached.
# A data set without raw data is prepared to a file that says so; what needs it is skipped.
# What takes long ends with DVC, also where DVC is killed: flows/parent_death_signal.py.
# A short list below repeats its last entry: one template has to serve all experiments.
"""
CODE = ("sa3d", "flows", "extensions/point_ops", "extensions/csrc")
SOURCES = "sa3d.data.sources"
REPORT = ("results.json", "lineage.json", "metrics.json", "report.html", "report.md", "figures")
# `exec`: the command's parent is DVC, not a shell that would outlive it
ENDS_WITH_DVC = "exec python flows/parent_death_signal.py SIGTERM"
NAME = re.compile(r"[A-Za-z0-9_-]+")


app = plain_app()


@app.command(cls=Command)
def command(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit status 2: it would change.")
    ] = False,
) -> None:
    """Write dvc.yaml in this folder from params.yaml."""
    write_or_check(Path("dvc.yaml"), dvc_yaml(Path("params.yaml")), WRITE, check=check)


def dvc_yaml(params: Path) -> str:
    """The text of ``dvc.yaml`` for the data sets and experiments of ``params``.

    Raises:
        ConfigError: a setting that is refused, or a name that DVC cannot take.
    """
    tree = read_yaml(params)
    for section in ("datasets", "experiments", "recipes"):
        for name in tree.get(section) or {}:
            if not NAME.fullmatch(name):
                raise ConfigError(
                    f"{params}: {section}.{name}: DVC takes only letters, digits, - and _ in a name"
                )
    configs = {name: load_experiment(name, params) for name in experiment_names(params)}
    stages = {"prepare": _prepare(params, tree)}
    read = {name for c in configs.values() for name, d in c.data.items() if d.endless is None}
    provided = read - set(source_names(params))
    if provided:
        stages["provided"] = _provided(sorted(provided))
    stages["experiment"] = _experiment(configs, params, tree)
    # a folder, whose files are looked up when asked for: none is missed that was never made
    pipeline = {"metrics": ["metrics"], "stages": stages}
    return HEADER + yaml.safe_dump(pipeline, sort_keys=False, width=200)


def _prepare(params: Path, tree: Mapping[str, Any]) -> dict[str, Any]:
    endless = endless_names(params)  # without a file
    names = [name for name in source_names(params) if name not in endless]
    return {
        "foreach": {name: {"raw": _raw(name, params, tree)} for name in names},
        "do": {
            "desc": "processed clouds of one data set",
            "cmd": f"{ENDS_WITH_DVC} python -m sa3d data prepare ${{key}} --or-absent",
            "deps": ["${item.raw}", "sa3d/data"],
            "params": ["datasets.${key}"],
            # persist: DVC does not delete a file that came from elsewhere before the stage runs
            "outs": [
                {f"data/processed/${{key}}.{end}": {"persist": True}} for end in ("h5", "json")
            ],
        },
    }


def _raw(name: str, params: Path, tree: Mapping[str, Any]) -> str:
    """The raw folder of a data set; of one that is generated, the code that generates it."""
    if "root" in tree["datasets"][name]:
        return f"${{datasets.{name}.root}}"  # read by DVC, so that -S may change it
    source = load_source(name, params)
    if hasattr(source, "root"):
        return str(source.root)
    return _code(registry.SOURCES[getattr(source, "source", "")].where)


def _code(where: str) -> str:
    """The code of a data source at ``module:attribute``, as a path in the repository.

    Of a source in a package of its own below ``sa3d.data.sources``: the package's folder; of any
    other, the module's file (a package's folder where the package itself is named). Code that is
    installed is not DVC's to watch; the registry, which names it, stands for it.
    """
    module = where.partition(":")[0]
    package = module.removeprefix(f"{SOURCES}.").partition(".")
    if module.startswith(f"{SOURCES}.") and package[1]:
        module = f"{SOURCES}.{package[0]}"
    spec = importlib.util.find_spec(module)
    root = Path(sa3d.__file__).parents[1]
    if spec is None or spec.origin is None or not Path(spec.origin).is_relative_to(root):
        return "sa3d/registry.py"
    file = Path(spec.origin).relative_to(root)
    return str(file.parent if spec.submodule_search_locations else file)


def _provided(names: list[str]) -> dict[str, Any]:
    """A check of each data set that no source makes: if it is missing, DVC says so once and which
    experiments wait for it."""
    file = "data/processed/${item}.h5"
    return {
        "foreach": names,
        "do": {
            "desc": "a data set that nothing here makes",
            "cmd": f"{ENDS_WITH_DVC} python -m sa3d data check ${{item}}",
            "outs": [{file: {"cache": False, "persist": True}}],  # persist: DVC never deletes it
        },
    }


def _experiment(
    configs: Mapping[str, ExperimentConfig], params: Path, tree: Mapping[str, Any]
) -> dict[str, Any]:
    inputs = {name: _inputs(config, params) for name, config in configs.items()}
    read = {name: _parameters(config, tree) for name, config in configs.items()}
    files, keys = _longest(inputs.values()), _longest(read.values())
    return {
        "foreach": {
            name: {"inputs": _filled(inputs[name], files), "params": _filled(read[name], keys)}
            for name in configs
        },
        "do": {
            "desc": "pre-train, register, compare on every task, report",
            "cmd": [
                f"{WRITE} --check",  # -S may have changed what the stage depends on
                f"{ENDS_WITH_DVC} python -m flows.experiment ${{key}} --out reports/${{key}}",
                "mkdir -p metrics && cp reports/${key}/metrics.json metrics/${key}.json",
            ],
            "deps": [*(f"${{item.inputs[{i}]}}" for i in range(files)), *CODE],
            "params": [f"${{item.params[{i}]}}" for i in range(keys)],
            "outs": [
                {f"{path}": {"cache": False}}
                for path in ("metrics/${key}.json", *(f"reports/${{key}}/{n}" for n in REPORT))
            ],
        },
    }


def _inputs(config: ExperimentConfig, params: Path) -> list[str]:
    """The files and folders that an experiment reads: data sets, and encoders from elsewhere."""
    variants = config.variants.values()
    read = config.data.items()
    found = [f"data/processed/{name}.h5" for name, data in read if data.endless is None]
    found += [v.checkpoint for v in variants if isinstance(v, CheckpointVariant)]
    if not found and not config.data:
        raise ConfigError(
            f"{params}: experiments.{config.name} neither pre-trains nor evaluates anything"
        )
    return list(dict.fromkeys(found)) or [CODE[0]]  # all data is made by the code


def _parameters(config: ExperimentConfig, tree: Mapping[str, Any]) -> list[str]:
    """The parts of ``params.yaml`` that an experiment reads."""
    recipes = used_recipes(tree["experiments"][config.name], tree.get("recipes") or {})
    endless = [name for name, data in config.data.items() if data.endless is not None]
    return [
        f"experiments.{config.name}",
        *(f"recipes.{recipe}" for recipe in recipes),
        *(f"datasets.{name}" for name in endless),
    ]


def _longest(lists: Iterable[Sequence[str]]) -> int:
    return max(map(len, lists), default=0)


def _filled(items: Sequence[str], length: int) -> list[str]:
    return [*items, *[items[-1]] * (length - len(items))]


if __name__ == "__main__":
    app(prog_name=WRITE)
