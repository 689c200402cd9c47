"""The registry: what can be named in ``params.yaml``, and where it lives.

One line here and one new file make a new backbone, mask strategy, data set or task
(``docs/extending.md``). Values are ``module:attribute``, imported on first use, so that
validating a name costs no import of torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from sa3d.errors import ConfigError

BACKBONES: dict[str, str] = {
    "point-mae": "sa3d.models.point_mae:PointMAE",
}

MASKS: dict[str, str] = {
    "random": "sa3d.masking.random:RandomMask",
    "block": "sa3d.masking.block:BlockMask",
    "gc": "sa3d.masking.geometric:GeometricMask",
}

DATASETS: dict[str, str] = {
    "shapes": "sa3d.data.shapes:prepare",
    "kicad": "sa3d.data.kicad:prepare",
}

TASKS: dict[str, str] = {
    "pretrain": "sa3d.tasks.pretrain:run",
    "svm": "sa3d.tasks.linear_svm:run",
    "classify": "sa3d.tasks.classify:run",
}


def nearest(word: str, known: Mapping[str, Any] | list[str]) -> str:
    """`` (did you mean 'x'?)`` for the known word closest to ``word``, or nothing."""
    import difflib

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""


def require(table: Mapping[str, str], kind: str, name: str) -> str:
    """``name`` itself if the table has it.

    Raises:
        ConfigError: naming the kind, the value and what is known.
    """
    if name not in table:
        raise ConfigError(
            f"unknown {kind} '{name}'{nearest(name, table)}; known: {', '.join(sorted(table))}"
        )
    return name


def load(table: Mapping[str, str], kind: str, name: str) -> Any:
    """The object registered under ``name``, imported on this first use.

    Raises:
        ConfigError: for a name that is not registered.
    """
    module, _, attribute = table[require(table, kind, name)].partition(":")
    return getattr(importlib.import_module(module), attribute)
