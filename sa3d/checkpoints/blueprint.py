"""The model that a published checkpoint is made into, and where each of its settings comes from.

Shapes of tensors come first. What no tensor shows is what the published training used, and the
user may say otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from sa3d.config.experiment import ModelConfig
from sa3d.config.resolve import overridden
from sa3d.data.preprocessing import Preprocessing
from sa3d.data.store import CloudSet
from sa3d.errors import CheckpointError, ConfigError
from sa3d.methods.sa3d.gc_predictor import GCPredictor
from sa3d.models import build_backbone, build_classifier, build_segmenter
from sa3d.models.official import Layout, Recipe, Shapes
from sa3d.models.settings import BackboneConfig

DROPOUT: Final = 0.5  # in every published head; no tensor shows it


@dataclass(frozen=True)
class Blueprint:
    """A model, complete.

    Attributes:
        layout: of the published checkpoint.
        model: settings of the backbone.
        head: what else the model is built with, by the names in ``layout.needs``.
        preprocessing: of its clouds.
        recipe: the published training that gives what no tensor shows.
        shown: settings of `model` and `head` that tensors showed.
        given: settings that the user gave.
        clouds: data set that names classes and parts; None: none was given.
    """

    layout: Layout
    model: BackboneConfig
    head: dict[str, Any]
    preprocessing: Preprocessing
    recipe: Recipe
    shown: dict[str, dict[str, Any]]
    given: dict[str, Any]
    clouds: CloudSet | None

    @property
    def assumed(self) -> dict[str, Any]:
        """Settings of the backbone that no tensor showed and nobody gave."""
        told = {"backbone", *self.shown["model"], *self.given.get("model", ())}
        return {k: v for k, v in self.model.model_dump(mode="json").items() if k not in told}

    def tensors(self, device: str) -> dict[str, Tensor]:
        """See :func:`tensors_of`."""
        return tensors_of(self.layout, self.model, self.head, device)

    def outputs(self) -> dict[str, Any]:
        """What the card says of a classifier's or segmenter's outputs.

        Raises:
            CheckpointError: the names are of another number of outputs, or it is not known which
                parts a class has.
        """
        if self.layout.kind == "pretrain":
            return {}
        settings = {"dropout": DROPOUT} | {k: v for k, v in self.head.items() if k == "pooling"}
        if self.layout.kind == "classifier":
            return {"settings": settings, "class_names": self._classes(self.head["num_classes"])}
        classes = self._classes(self.head["num_categories"])
        parts, members = self._parts(self.head["num_parts"], len(classes))
        return {
            "settings": settings,
            "class_names": classes,
            "part_names": parts,
            "class_parts": members,
        }

    def _classes(self, count: int) -> list[str]:
        if self.clouds is not None:
            return _so_many("classes", count, self.clouds.class_names)
        if len(self.recipe.classes) == count:
            return list(self.recipe.classes)
        return [f"class {number}" for number in range(count)]

    def _parts(self, count: int, classes: int) -> tuple[list[str], list[list[int]]]:
        """Names of parts, and which of them each class has."""
        if self.clouds is not None:
            names = _so_many("parts", count, self.clouds.part_names)
            return names, [list(each) for each in self.clouds.class_parts]
        if len(self.recipe.parts) != classes:
            raise CheckpointError(
                f"{self.layout.name}: which of the {count} parts belong to which of the {classes} "
                "classes, no tensor shows; give --data NAME, a prepared data set that says it"
            )
        names, members = [], []
        for name, own in zip(self.recipe.classes, self.recipe.parts, strict=True):
            members.append(list(range(len(names), len(names) + own)))
            names += [f"{name}/{number}" for number in range(own)]  # as in the data set
        return names, members


def _so_many(what: str, count: int, names: Sequence[str]) -> list[str]:
    if len(names) != count:
        raise CheckpointError(
            f"the checkpoint tells {count} {what} apart, the data set has {len(names)}; give "
            "another --data"
        )
    return list(names)


def blueprint(
    path: Path,
    backbone: str,
    layout: Layout,
    shapes: Shapes,
    settings: Sequence[str],
    clouds: CloudSet | None,
) -> Blueprint:
    """The model of a published checkpoint.

    Args:
        path: of the checkpoint, for messages.
        backbone: its name in the registry.
        layout: of the checkpoint.
        shapes: of its tensors, by our names.
        settings: ``model.KEY=VALUE``, ``preprocessing.KEY=VALUE`` and ``head.KEY=VALUE``.
        clouds: data set that names classes and parts, and says how clouds are normalised.

    Raises:
        CheckpointError: something is needed that no tensor shows, or settings do not go together.
        ConfigError: a setting that there is not.
    """
    inferred = layout.infer(shapes)
    outputs = inferred.head.get("num_classes", inferred.head.get("num_parts"))
    recipe = layout.recipes.get(outputs) or layout.recipes[None]
    normalisation = recipe.normalisation if clouds is None else clouds.normalisation
    tree = overridden(
        {
            "model": {"backbone": backbone, **recipe.model, **inferred.model},
            "head": inferred.head,
            "preprocessing": {"points": recipe.points, "normalisation": normalisation},
        },
        settings,
    )
    if strange := set(tree) - {"model", "head", "preprocessing"}:
        raise ConfigError(
            f"--set {min(strange)}: a conversion has settings of model, head and preprocessing, "
            "as in --set model.heads=6"
        )
    model = _model(path, layout, tree["model"])
    preprocessing = Preprocessing.from_json(tree["preprocessing"])
    if preprocessing.points < model.least_points:
        raise ConfigError(
            f"preprocessing.points={preprocessing.points}: the patches of this model need "
            f"{model.least_points}; give --set preprocessing.points=N or model.groups=N"
        )
    check_head(path, layout, tree["head"], model)
    return Blueprint(
        layout,
        model,
        tree["head"],
        preprocessing,
        recipe,
        {"model": inferred.model, "head": inferred.head},
        overridden({}, settings),
        clouds,
    )


def _model(path: Path, layout: Layout, values: Mapping[str, Any]) -> BackboneConfig:
    try:
        found: BackboneConfig = TypeAdapter(ModelConfig).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("model", *first["loc"])))
        raise CheckpointError(
            f"{path} as {layout.name}: {where}: {first['msg']}. What no tensor shows is given by "
            "--set, as in --set model.heads=3"
        ) from None
    return found


def check_head(path: Path, layout: Layout, head: Mapping[str, Any], model: BackboneConfig) -> None:
    """That what the model is built with is known, and can be."""
    for name in layout.needs:
        value = head.get(name)
        if value is None:
            raise CheckpointError(
                f"{path} as {layout.name}: no tensor shows {name}; give --set head.{name}=VALUE"
            )
        right = value in model.poolings if name == "pooling" else type(value) is int and value > 0
        if not right:
            expected = ", ".join(model.poolings) if name == "pooling" else "a positive number"
            raise CheckpointError(f"{path}: head.{name}={value!r}, expected {expected}")
    if strange := set(head) - set(layout.needs):
        there = ", ".join(layout.needs) or "none"
        raise ConfigError(f"head.{min(strange)}: {layout.name} has no such setting; it has {there}")


def tensors_of(
    layout: Layout, model: BackboneConfig, head: Mapping[str, Any], device: str
) -> dict[str, Tensor]:
    """All tensors of a model of this layout, by our names: shapes alone (``meta``), or random
    weights, the same every time (``cpu``)."""
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(0)
        if layout.kind == "classifier":
            classes, pooling = head["num_classes"], head["pooling"]
            return build_classifier(model, classes, DROPOUT, pooling).state_dict()
        if layout.kind == "segmenter":
            parts, categories = head["num_parts"], head["num_categories"]
            return build_segmenter(model, parts, categories, DROPOUT).state_dict()
        backbone = build_backbone(model)
        state = {f"backbone.{name}": value for name, value in backbone.state_dict().items()}
        if "gc_depth" in layout.needs:
            predictor = GCPredictor(
                backbone.dim, head["gc_depth"], backbone.heads, backbone.drop_path
            )
            state |= {f"gc.{name}": value for name, value in predictor.state_dict().items()}
        return state | unused_norms(layout, state)


def unused_norms(layout: Layout, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """LayerNorms that published code has and never trains, as it begins with them."""
    found = {}
    for name, like in layout.unused.items():
        found[f"{name}.weight"] = torch.ones_like(state[f"{like}.weight"])
        found[f"{name}.bias"] = torch.zeros_like(state[f"{like}.bias"])
    return found
