"""When a registered model becomes the champion: the section ``gate`` of ``params.yaml``.

    gate:
      min_seeds: 1
      tasks:
        svm: {minimum: 0.5, max_drop: 0.01}
      experiments:
        kicad: {min_seeds: 3}

A key under ``tasks`` is a task (``svm``: every evaluation of that task) or one evaluation
(``svm-shapes``). ``experiments.NAME`` replaces ``min_seeds``, ``tasks`` or both for the models of
that experiment.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, Field, ValidationError

from sa3d import registry
from sa3d.config.base import Frozen, Positive
from sa3d.config.explain import explained
from sa3d.config.yaml_file import read_yaml
from sa3d.errors import ConfigError
from sa3d.utils.paths import params_file

SECTION: Final = "gate"
R = TypeVar("R", bound="GateRules")


def task_of(key: str) -> str:
    """The task of an entry of ``tasks``: ``svm`` of ``svm`` and of ``svm-shapes``."""
    return key.partition("-")[0]


def _evaluation(key: str) -> str:
    known = registry.downstream()
    if task_of(key) not in known:
        hint = registry.nearest(key, known)
        raise ValueError(
            f"no such task{hint}; give one of {', '.join(known)}, or one evaluation "
            "of it, as in svm-shapes"
        )
    return key


class TaskRule(Frozen):
    """What the gate asks of one task. Its number is the one that the task's runs are compared by
    (``test/acc`` of ``svm``), the mean over seeds."""

    minimum: float | None = Field(
        None,
        description="worst value that passes; null: any. Of a metric that is better when lower it "
        "is the largest",
    )
    max_drop: Annotated[float, Field(ge=0.0)] | None = Field(
        0.01,
        description="by how much it may be worse than the champion's; null: not compared with it",
    )


class GateRules(Frozen):
    """What a version must have shown before it becomes the champion."""

    min_seeds: Positive = Field(1, description="seeds of every evaluation that must have finished")
    tasks: dict[Annotated[str, AfterValidator(_evaluation)], TaskRule] = Field(
        {"svm": TaskRule()},
        min_length=1,
        description="tasks, or single evaluations, that must have finished, each with its rule",
    )


class GateConfig(GateRules):
    """The whole section: the rules, and where single experiments differ."""

    experiments: dict[str, dict[str, Any]] = Field(
        {}, description="by experiment: `min_seeds`, `tasks` or both, instead of those above"
    )


def load_rules(experiment: str, path: Path | None = None) -> GateRules:
    """The rules for models of an experiment; the defaults where no ``params.yaml`` has any.

    Args:
        experiment: its name.
        path: settings file; the project's by default.

    Raises:
        ConfigError: an unknown key or value, named.
    """
    path = path or params_file()
    section = read_yaml(path).get(SECTION, {}) if path.is_file() else {}
    if not isinstance(section, Mapping):
        raise ConfigError(f"{path}: {SECTION} holds {type(section).__name__}, not a mapping")
    whole = _checked(GateConfig, section, path, SECTION)
    own = whole.experiments.get(experiment)
    if own is None:
        return GateRules(min_seeds=whole.min_seeds, tasks=whole.tasks)
    base = {key: value for key, value in section.items() if key != "experiments"}
    return _checked(GateRules, {**base, **own}, path, f"{SECTION}.experiments.{experiment}")


def _checked(kind: type[R], values: Mapping[str, Any], path: Path, where: str) -> R:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        said = explained(error, values, values, where, (), kind)
        # pydantic's mark of a key that was refused, where the value would stand
        raise ConfigError(f"{path}: {said.text.replace('.[key]', '')}") from None
