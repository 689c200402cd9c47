"""The names that forms offer: of the registry, and of the settings file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from sa3d import registry
from sa3d.config.resolve import with_recipes
from sa3d.config.yaml_file import read_yaml
from sa3d.utils import paths


def experiments() -> list[str]:
    """Experiments of the settings file."""
    return list(_variants())


def datasets() -> list[str]:
    """Data sets of the settings file."""
    return list(_section("datasets"))


def variants() -> list[str]:
    """Variants of all experiments of the settings file, each name once."""
    return list(dict.fromkeys(name for found in _variants().values() for name in found))


def pretrained() -> list[str]:
    """Those of :func:`variants` that are pre-trained."""
    return list(dict.fromkeys(name for _, name in _methods()))


def models() -> list[str]:
    """Names in MLflow's registry of the models that the experiments pre-train."""
    return [f"sa3d-{experiment}-{variant}" for experiment, variant in _methods()]


def methods_of(experiment: str, file: Path) -> list[str]:
    """The variants of an experiment that are pre-trained; of an unknown one, none."""
    return [variant for name, variant in _methods(file) if name == experiment]


def tasks() -> list[str]:
    """Tasks of the registry that start from an encoder."""
    return registry.downstream()


def masks() -> list[str]:
    """Mask strategies of the registry."""
    return list(registry.MASKS)


def _methods(file: Path | None = None) -> list[tuple[str, str]]:
    """Experiment and variant of everything that is pre-trained."""
    return [
        (experiment, name)
        for experiment, found in _variants(file).items()
        for name, values in found.items()
        if isinstance(values, Mapping) and "method" in values
    ]


def _variants(file: Path | None = None) -> dict[str, Mapping[str, Any]]:
    """The variants of every experiment, recipes filled in."""
    recipes = _section("recipes", file)
    return {
        name: with_recipes(values["variants"], recipes)
        for name, values in _section("experiments", file).items()
        if isinstance(values, Mapping) and isinstance(values.get("variants"), Mapping)
    }


def _section(name: str, file: Path | None = None) -> Mapping[str, Any]:
    file = file or paths.given_params() or paths.params_file()
    found = _read(file.resolve()).get(name)
    return found if isinstance(found, Mapping) else {}


@cache  # a form asks for several lists; a flow and a deployment are over before the file changes
def _read(file: Path) -> Mapping[str, Any]:
    return read_yaml(file)
