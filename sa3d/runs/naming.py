"""What people see of a run in MLflow: its name, the command that makes it, and a description."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sa3d import registry
from sa3d.config.base import flat
from sa3d.config.experiment import ExperimentConfig
from sa3d.config.loading import load_experiment
from sa3d.errors import UserError
from sa3d.runs.config import RunConfig, runs_of
from sa3d.runs.fingerprint import Located
from sa3d.runs.spec import RunSpec
from sa3d.tracking import lineage
from sa3d.utils import paths

RESULT_NEUTRAL: Final = True
PARAMS: Final = "params"
"""The tag with the settings file that a flow was started on, for the runs that it starts: they
read a file of their own, in which every override has gone in."""
_NAMED = 3  # settings in a name; the others are counted


def settings_file() -> Path:
    """The file that a person edits: the one whose settings are the usual ones."""
    handed = lineage.from_parent().get(PARAMS)
    if handed:
        return paths.root() / handed
    return paths.given_params() or paths.params_file()


def changed(run: RunConfig) -> dict[str, Any]:
    """The settings of a run, dotted, that differ from what its settings file says.

    Empty also where that file has no such run: then there is nothing to differ from.
    """
    for other in _usual_runs(run.experiment):
        if _alike(other.spec) == _alike(run.spec):
            return _difference(run.params(), other.params())
    return {}


def changed_experiment(config: ExperimentConfig) -> dict[str, Any]:
    """The settings of an experiment, dotted, that differ from what its settings file says."""
    usual = _usual(config.name)
    return {} if usual is None else _difference(experiment_params(config), experiment_params(usual))


def experiment_params(config: ExperimentConfig) -> dict[str, Any]:
    """The settings of an experiment, dotted, each said once: what all methods have in common is
    under ``pretrain``, and what an evaluation has from the experiment is left out there."""
    tree = config.model_dump(mode="json")
    methods = [tree["variants"][name] for name in config.methods]
    if methods:
        first, *others = methods
        common = {
            key: value
            for key, value in first.items()
            if all(key in other and other[key] == value for other in others)
        }
        tree["pretrain"] |= common
        for name in config.methods:
            tree["variants"][name] = _without(tree["variants"][name], common)
    tree["evaluate"] = {
        "-".join(filter(None, (each["task"], each["label"], each["data"]["name"]))): _without(
            each, tree | {"variants": list(tree["variants"])}
        )
        for each in tree["evaluate"]
    }
    return flat(tree)


def _without(tree: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in tree.items() if key not in known or known[key] != value}


def name(base: str, settings: Mapping[str, Any]) -> str:
    """``demo-sa3df-shapes-s0 mask_ratio=0.75``: what differs from other runs."""
    count = Counter(key.rpartition(".")[2] for key in settings)
    words = []
    for key, value in list(settings.items())[:_NAMED]:
        last = key.rpartition(".")[2]
        words.append(f"{last if count[last] == 1 else key}={_text(value)}")
    if len(settings) > _NAMED:
        words.append(f"+{len(settings) - _NAMED}")
    return " ".join([base, *words])


def run_name(run: RunConfig) -> str:
    """The name of a run in MLflow."""
    return name(f"{run.experiment}-{run.spec.short}", changed(run))


def description(run: RunConfig, settings: Mapping[str, Any]) -> str:
    """What a run is, in words and Markdown.

    Args:
        run: of which it tells.
        settings: those that :func:`changed` found.
    """
    spec = run.spec
    if spec.task == registry.PRETRAIN:
        what = f"Pre-training of `{spec.variant}` without labels on data set `{spec.data}`"
    else:
        what = f"Evaluation `{spec.evaluation}` of `{spec.variant}`"
    fold = "" if spec.fold is None else f", fold {spec.fold}"
    lines = [f"{what}, seed {spec.seed}{fold}; experiment `{run.experiment}`."]
    if spec.task != registry.PRETRAIN:
        start = spec.start.name if isinstance(spec.start, RunSpec) else spec.start
        lines.append(f"Starts from `{start}`." if start else "Starts from random weights.")
    if isinstance(spec.teacher, RunSpec):
        lines.append(f"Its knowledge teacher is `{spec.teacher.name}`.")
    return "\n\n".join([" ".join(lines), difference(settings)])


def difference(settings: Mapping[str, Any]) -> str:
    """What differs from the settings file, in words and Markdown."""
    where = f"`{paths.shown(settings_file())}`"
    if not settings:
        return f"All settings are those of {where}."
    listed = "\n".join(f"* `{key}` = `{_text(value)}`" for key, value in settings.items())
    return f"Other settings than in {where}:\n\n{listed}"


def command(located: Located, overrides: Sequence[str] = ()) -> str:
    """What to type to make a run.

    Args:
        located: the run and what it starts from.
        overrides: of ``--set``.
    """
    spec = located.run.spec
    words = ["python", "-m", "sa3d", spec.task, "-e", located.run.experiment]
    words += ["--variant", spec.variant]
    if spec.task != registry.PRETRAIN:
        words += ["--data", spec.data]
    if spec.label:
        words += ["--label", spec.label]
    words += ["--seed", str(spec.seed)]
    if spec.fold is not None:
        words += ["--fold", str(spec.fold)]
    given = paths.given_params()
    if given is not None:
        words += ["--params", paths.shown(given.resolve())]
    for override in overrides:
        words += ["--set", override]
    for option, model, usual in (
        ("--from", located.start, spec.start),
        ("--teacher", located.teacher, spec.teacher),
    ):
        own = isinstance(usual, RunSpec) and model is not None and _is_of(model, usual)
        if model is not None and not own and usual is not None and str(model) != usual:
            words += [option, paths.shown(model)]
    return shlex.join(words)


def _usual(experiment: str) -> ExperimentConfig | None:
    try:
        return load_experiment(experiment, settings_file())
    except UserError:  # no such experiment in it: it was started on other settings altogether
        return None


def _usual_runs(experiment: str) -> list[RunConfig]:
    usual = _usual(experiment)
    return runs_of(usual) if usual is not None else []


def _alike(spec: RunSpec) -> tuple[str, ...]:
    """What tells runs apart that differ in more than seed and fold."""
    return spec.task, spec.variant, spec.data, spec.label


def _difference(mine: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    return _without(mine, usual)


def _is_of(model: Path, spec: RunSpec) -> bool:
    """Whether a model lies in the folder that a run gets by itself."""
    folders = (model.name, model.parent.name)
    return any(folder.startswith(f"{spec.name}-") for folder in folders)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ",".join(map(_text, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)
