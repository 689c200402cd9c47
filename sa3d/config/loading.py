"""Reading experiments and data sources from ``params.yaml``, with errors a user can act on."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sa3d import registry
from sa3d.config.base import Frozen
from sa3d.config.endless import EndlessSource
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
    values = _with_endless(completed(raw), tree, path) | {"name": name}
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
    for name, data in config.data.items():
        if data.endless is not None or processed(name).is_file():
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


def endless_names(path: Path | None = None) -> list[str]:
    """The data sets of ``params.yaml`` that are made while a model is trained on them."""
    path = path or params_file()
    tree = read_yaml(path)
    return [name for name in source_names(path) if _is_endless(tree["datasets"][name])]


def _is_endless(values: Any) -> bool:
    kind = values.get("source") if isinstance(values, Mapping) else None
    if kind not in registry.SOURCES:
        return False  # which is told by who reads the settings
    return issubclass(
        registry.settings_of(registry.SOURCES, "data source", str(kind)), EndlessSource
    )


def _with_endless(values: dict[str, Any], tree: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """An experiment's values with the settings of every endless data set that it names."""
    sources = tree.get("datasets")

    def filled(holder: Any) -> Any:
        data = holder.get("data") if isinstance(holder, Mapping) else None
        if not isinstance(data, Mapping) or not isinstance(sources, Mapping):
            return holder
        name = str(data.get("name"))
        if not _is_endless(sources.get(name)):
            return holder
        settings = load_source(name, path).model_dump(mode="json")
        return {**holder, "data": {**data, "endless": settings | (data.get("endless") or {})}}

    found = {**values, "pretrain": filled(values.get("pretrain"))}
    if isinstance(values.get("evaluate"), list):
        found["evaluate"] = [filled(each) for each in values["evaluate"]]
    return found if "pretrain" in values else {k: v for k, v in found.items() if k != "pretrain"}


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
