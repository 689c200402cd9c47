"""The registry: what can be named in ``params.yaml``, and where it lives.

One line here and one new file make a new backbone (and a class for its settings), mask strategy,
data set or task (``docs/extending.md``). Where something lives is ``module:attribute``, imported on
first use, so that validating a name costs no import of torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from sa3d.errors import ConfigError


class Task(NamedTuple):
    """What can be known of a task without importing it.

    Attributes:
        where: ``module:attribute`` of its ``run(config, context)``.
        title: its heading in reports.
        help: its line in ``sa3d --help``.
        reads: sections or keys of an experiment that decide its result beside ``seed``,
            ``model`` and ``data.points``, which decide every task's.
        trains: which model of the backbone's :class:`Architecture` it trains, if one.
    """

    where: str
    title: str
    help: str
    reads: tuple[str, ...] = ()
    trains: Literal["classifier", "segmenter"] | None = None


class Architecture(NamedTuple):
    """A backbone, its settings and its models for downstream tasks, each ``module:attribute``.

    Attributes:
        where: the :class:`~sa3d.models.backbone.Backbone`.
        settings: its :class:`~sa3d.models.settings.BackboneConfig`, in a module that does not
            import torch: every ``--help`` reads it.
        classifier: its :class:`~sa3d.models.downstream.Classifier`.
        segmenter: its :class:`~sa3d.models.downstream.Segmenter`; None: it has none.
    """

    where: str
    settings: str
    classifier: str
    segmenter: str | None = None


BACKBONES: dict[str, Architecture] = {
    "point-mae": Architecture(
        "sa3d.models.point_mae.backbone:PointMAE",
        "sa3d.models.settings:PointMAEConfig",
        "sa3d.models.point_mae.heads:PointMAEClassifier",
        "sa3d.models.point_mae.heads:PointMAESegmenter",
    ),
    "point-m2ae": Architecture(
        "sa3d.models.point_m2ae.backbone:PointM2AE",
        "sa3d.models.settings:PointM2AEConfig",
        "sa3d.models.point_m2ae.heads:PointM2AEClassifier",
        "sa3d.models.point_m2ae.heads:PointM2AESegmenter",
    ),
}

MASKS: dict[str, str] = {
    "random": "sa3d.masking.random:RandomMask",
    "block": "sa3d.masking.block:BlockMask",
    "gc": "sa3d.masking.geometric:GeometricMask",
}

DATASETS: dict[str, str] = {
    "shapes": "sa3d.data.sources.shapes.source:prepare",
    "kicad": "sa3d.data.sources.kicad.source:prepare",
}

AUGMENTATIONS: dict[str, str] = {
    "none": "sa3d.data.transforms:none",
    "scale_translate": "sa3d.data.transforms:scale_translate",
    "rotate_y": "sa3d.data.transforms:rotate_y",
}

PRETRAIN = "pretrain"  # the one task that is not downstream of another
TASKS: dict[str, Task] = {
    # reads the section of its arm: `pretrain` or `baseline`
    PRETRAIN: Task("sa3d.tasks.pretrain:run", "Pre-training", "Pre-train without labels."),
    "svm": Task(
        "sa3d.tasks.linear_svm:run",
        "Linear SVM on frozen features",
        "Linear SVM on frozen features.",
        reads=("svm",),
    ),
    "classify": Task(
        "sa3d.tasks.classify:run",
        "Fine-tuned classifier",
        "Fine-tune for classification, or train it from scratch.",
        reads=("classify", "data.val_fraction"),
        trains="classifier",
    ),
}


def downstream() -> dict[str, Task]:
    """The tasks that start from a pre-trained model, or from random weights."""
    return {name: task for name, task in TASKS.items() if name != PRETRAIN}


def nearest(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the known word closest to ``word``, or nothing."""
    import difflib

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""


def require(table: Mapping[str, object], kind: str, name: str) -> str:
    """``name`` itself if the table has it.

    Raises:
        ConfigError: naming the kind, the value and what is known.
    """
    if name not in table:
        raise ConfigError(
            f"unknown {kind} '{name}'{nearest(name, table)}; known: {', '.join(sorted(table))}"
        )
    return name


def place(entry: str | Task | Architecture) -> str:
    """``module:attribute`` of a registry's entry."""
    return entry if isinstance(entry, str) else entry.where


def load(table: Mapping[str, str | Task | Architecture], kind: str, name: str) -> Any:
    """The object registered under ``name``, imported on this first use.

    Raises:
        ConfigError: for a name that is not registered.
    """
    return load_at(place(table[require(table, kind, name)]))


def load_at(where: str) -> Any:
    """The object at ``module:attribute``."""
    module, _, attribute = where.partition(":")
    return getattr(importlib.import_module(module), attribute)
