"""Reading experiments and data sources from ``params.yaml``, with errors a user can act on."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sa3d import registry
from sa3d.config.base import Frozen
from sa3d.config.experiment import ExperimentConfig
from sa3d.config.explain import explained
from sa3d.config.resolve import completed, overridden, with_recipes
from sa3d.config.yaml_file import read_yaml
from sa3d.errors import ConfigError
from sa3d.registry import nearest
from sa3d.utils.paths import params_file, processed


def load_experiment(
    name: str, path: Path | None = None, overrides: Sequence[str] = ()
) -> ExperimentConfig:
    """Experiment ``name`` of ``params.yaml``, complete, with ``section.key=value`` overrides.

    Raises:
        ConfigError: unknown experiment, key or value, or an unreadable file.
    """
    path = path or params_file()
    tree = read_yaml(path)
    experiments = _section(tree, "experiments", path)
    if not isinstance(experiments.get(name), Mapping):
        raise ConfigError(
            f"no experiment '{name}' in {path}{nearest(name, experiments)}; there are: "
            f"{', '.join(experiments)}"
        )
    recipes = _section(tree, "recipes", path) if "recipes" in tree else {}
    try:
        raw = with_recipes(experiments[name], recipes)
    except ConfigError as error:
        raise ConfigError(f"{path}: experiments.{name}: {error}") from None
    raw = overridden(raw, overrides)
    if raw.get("name", name) != name:
        raise ConfigError(
            f"{path}: experiments.{name}.name = {raw['name']!r}: the name of this experiment is "
            f"'{name}'; leave `name` out"
        )
    values = completed(raw) | {"name": name}
    try:
        return ExperimentConfig.model_validate(values)
    except ValidationError as error:
        said = explained(error, raw, values, f"experiments.{name}", overrides)
        raise ConfigError(f"{said.blamed or path}: {said.text}") from None


def require_data(config: ExperimentConfig, path: Path | None = None) -> None:
    """That the experiment's data sets are there, or at least can be made.

    Raises:
        ConfigError: neither processed data nor an entry under ``datasets``.
    """
    for name in config.datasets:
        if processed(name).is_file():
            continue
        known = source_names(path)
        if name not in known:
            raise ConfigError(
                f"data set {name}: nothing here makes it, and there is no {processed(name)}; put "
                f"one there, or choose of {', '.join(known)} as in --set "
                f"{shlex.quote(f'pretrain.data.name={known[0]}')}"
            )


def load_source(name: str, path: Path | None = None, overrides: Sequence[str] = ()) -> Frozen:
    """The settings of data set ``name`` of ``params.yaml``, in the class of its source.

    Raises:
        ConfigError: as :func:`load_experiment`.
    """
    path = path or params_file()
    tree = _section(read_yaml(path), "datasets", path)
    if not isinstance(tree.get(name), Mapping):
        raise ConfigError(
            f"no data set '{name}' in {path}{nearest(name, tree)}; there are: "
            f"{', '.join(sorted(tree))}"
        )
    values = overridden(tree[name], overrides)
    if "source" not in values:
        raise ConfigError(f"{path}: datasets.{name}.source is missing")
    settings: type[Frozen] = registry.settings_of(
        registry.SOURCES, "data source", str(values["source"])
    )
    try:
        return settings.model_validate(values)
    except ValidationError as error:
        said = explained(error, values, values, f"datasets.{name}", overrides, settings)
        raise ConfigError(f"{said.blamed or path}: {said.text}") from None


def experiment_names(path: Path | None = None) -> list[str]:
    """All experiments of ``params.yaml``, in the file's order."""
    path = path or params_file()
    return list(_section(read_yaml(path), "experiments", path))


def source_names(path: Path | None = None) -> list[str]:
    """All data sets of ``params.yaml``, in the file's order."""
    path = path or params_file()
    return list(_section(read_yaml(path), "datasets", path))


def _section(tree: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
    section = tree.get(key)
    if not isinstance(section, dict):
        raise ConfigError(f"{path} has no mapping `{key}`")
    return section
