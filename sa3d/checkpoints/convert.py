"""Published checkpoints as models of this program, and back.

What a checkpoint is, its layout says (``sa3d/models/<backbone>/official.py``). Settings come from
the shapes of its tensors; what no tensor shows is what the published training used, unless the
user gives another value. Every tensor is accounted for, in the report and in the card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from sa3d.checkpoints.card import MODEL_FILE, find_model, model_card
from sa3d.checkpoints.containers import EMA, read_published, write_published
from sa3d.checkpoints.conversion_report import Report
from sa3d.checkpoints.export import checked_card, export_model, read_weights
from sa3d.checkpoints.load import model_of
from sa3d.checkpoints.renaming import (
    Comparison,
    Leniency,
    compare,
    layouts,
    recognise,
    to_ours,
    to_theirs,
)
from sa3d.config.experiment import ModelConfig
from sa3d.config.resolve import overridden
from sa3d.data.preprocessing import Preprocessing
from sa3d.data.store import CloudSet, open_clouds
from sa3d.errors import CheckpointError, ConfigError
from sa3d.methods.sa3d.gc_predictor import GCPredictor
from sa3d.models import build_backbone, build_classifier, build_segmenter
from sa3d.models.official import KEPT, Layout, Recipe
from sa3d.models.settings import BackboneConfig

DROPOUT: Final = 0.5  # in every published head; no tensor shows it
PROVENANCE: Final = "official"  # in the card


@dataclass(frozen=True)
class Reading:
    """How a published checkpoint is read.

    Attributes:
        layout: its name; None: the one that fits best.
        ema: the moving average instead of the weights themselves.
        trust: classes that the file may build.
        leniency: what it may lack.
        settings: ``model.KEY=VALUE``, ``preprocessing.KEY=VALUE`` and ``head.KEY=VALUE``.
        clouds: processed data set that names the classes and parts, and says how its clouds are
            normalised; None: what the published training had.
    """

    layout: str | None = None
    ema: bool = False
    trust: Sequence[str] = ()
    leniency: Leniency = Leniency()  # noqa: RUF009 - frozen
    settings: Sequence[str] = ()
    clouds: Path | None = None


@dataclass(frozen=True)
class _Plan:
    """The model that a published checkpoint is made into."""

    model: BackboneConfig
    head: dict[str, Any]
    preprocessing: Preprocessing


def convert(path: Path, folder: Path, reading: Reading) -> Report:
    """Make an exported model of a published checkpoint.

    Args:
        path: of the checkpoint.
        folder: for ``model.safetensors`` and ``model.json``; holds no model yet.
        reading: how.

    Raises:
        CheckpointError: it cannot be read, or is not whole, or not known.
        ConfigError: a setting that the model has not.
        DataError: no such data set.
    """
    _must_be_new(folder / MODEL_FILE)
    published = read_published(path, ema=reading.ema, trust=reading.trust)
    name = _named(path, reading.layout, published.state, "theirs")
    backbone, layout = layouts()[name]
    clouds = None if reading.clouds is None else open_clouds(reading.clouds)

    shapes = {
        key: tuple(value.shape) for key, value in to_ours(published.state, layout).state.items()
    }
    inferred = layout.infer(shapes)
    shown = {"model": inferred.model, "head": inferred.head}
    outputs = inferred.head.get("num_classes", inferred.head.get("num_parts"))
    recipe = layout.recipes.get(outputs) or layout.recipes[None]
    plan = _planned(path, backbone, layout, shown, recipe, reading, clouds)

    expected = to_theirs(_tensors(layout, plan.model, plan.head, "meta"), layout).state
    found = compare(published.state, expected)
    reading.leniency.check(f"{path} ({name})", found)
    state = to_ours({key: published.state[key] for key in found.loaded}, layout).state
    fresh = {}
    if found.missing:
        fresh = {
            key: value
            for key, value in _tensors(layout, plan.model, plan.head, "cpu").items()
            if key not in state and not key.startswith(f"{KEPT}.")
        }
    given = overridden({}, reading.settings)
    report = Report(
        layout=layout,
        container=published.container,
        epoch=published.epoch,
        found=found,
        fresh=tuple(fresh),
        shown=shown,
        given=given,
        recipe=recipe,
        model=plan.model,
        preprocessing={
            "points": plan.preprocessing.points,
            "normalisation": plan.preprocessing.normalisation,
        },
    )
    card = {
        "kind": layout.kind,
        "model": plan.model.model_dump(mode="json"),
        "preprocessing": plan.preprocessing.to_json(),
        **_of_head(path, layout, plan.head, recipe, clouds),
        PROVENANCE: {
            "file": path.name,
            "sha256": published.sha256,
            "prefixed": published.prefixed,
            **report.provenance(),
        },
    }
    export_model(folder, {key: value.clone() for key, value in (state | fresh).items()}, card)
    return report


def convert_back(path: Path, file: Path, layout_name: str | None, leniency: Leniency) -> Report:
    """Write an exported model as a published checkpoint.

    Args:
        path: a run folder or its ``model`` folder.
        file: to be written; does not exist yet.
        layout_name: of the checkpoint; None: that of the checkpoint which the model was, or the
            one that fits best.
        leniency: what may be left out.

    Raises:
        CheckpointError: no model there, or none that published code has a place for.
    """
    _must_be_new(file)
    folder, kind = find_model(path), model_card(path).get("kind")
    if kind not in ("pretrain", "classifier", "segmenter"):
        raise CheckpointError(f"{folder} holds a {kind}, which published code does not know")
    card = checked_card(path, kind)
    state, model = read_weights(folder, card), model_of(card, folder)
    before = card.get(PROVENANCE) or {}
    candidates = {
        name: (backbone, layout)
        for name, (backbone, layout) in layouts().items()
        if (backbone, layout.kind) == (model.backbone, kind)
    }
    name = _named(folder, layout_name or before.get("layout"), state, "ours", candidates)
    _, layout = candidates[name]

    shapes = {key: tuple(value.shape) for key, value in state.items()}
    inferred = layout.infer(shapes)
    head = inferred.head | _pooling(card)
    _check_head(folder, layout, head, model)
    filled = {key: value for key, value in _unused(layout, state).items() if key not in state}
    renamed = to_theirs(state | filled, layout)
    expected = to_theirs(_tensors(layout, model, head, "meta"), layout).state
    found = compare(renamed.state, expected)
    found = Comparison(
        found.loaded, found.missing, found.unexpected + renamed.unknown, found.misshapen
    )
    leniency.check(f"{folder} ({name})", found)
    container, epoch = before.get("container", layout.container), before.get("epoch")
    if container == EMA:
        container = layout.container
    write_published(file, {key: renamed.state[key] for key in found.loaded}, container, epoch)
    return Report(
        layout=layout,
        container=container,
        epoch=epoch,
        found=found,
        fresh=tuple(filled),
        shown={},
        given={},
        recipe=None,
        model=model,
        preprocessing={},
        back=True,
        note=_note(inferred.head.get("pooling"), head.get("pooling")),
    )


def _must_be_new(path: Path) -> None:
    if path.exists():
        raise CheckpointError(f"{path} is there already; choose another --out or delete it")


def _named(
    path: Path,
    wanted: str | None,
    state: Mapping[str, Tensor],
    side: Any,
    candidates: Mapping[str, tuple[str, Layout]] | None = None,
) -> str:
    """The layout that is meant, or the one that fits."""
    known = layouts() if candidates is None else candidates
    if wanted is not None:
        if wanted not in known:
            there = ", ".join(known) or "none at all"
            raise CheckpointError(f"{path}: no layout '{wanted}' for it; there is: {there}")
        return wanted
    found = recognise(state, side, known)
    if found is None:
        raise CheckpointError(
            f"{path} is of no layout known here ({', '.join(known) or 'there is none for it'}); "
            f"its tensors are {', '.join(list(state)[:3])}, ..."
        )
    return found


def _planned(
    path: Path,
    backbone: str,
    layout: Layout,
    shown: Mapping[str, Any],
    recipe: Recipe,
    reading: Reading,
    clouds: CloudSet | None,
) -> _Plan:
    """All settings: what the tensors show, else what is published; what the user gives wins."""
    normalisation = recipe.normalisation if clouds is None else clouds.normalisation
    tree = overridden(
        {
            "model": {"backbone": backbone, **recipe.model, **shown["model"]},
            "head": dict(shown["head"]),
            "preprocessing": {"points": recipe.points, "normalisation": normalisation},
        },
        reading.settings,
    )
    if strange := set(tree) - {"model", "head", "preprocessing"}:
        raise ConfigError(
            f"--set {min(strange)}: a conversion has settings of model, head and preprocessing, "
            "as in --set model.heads=6"
        )
    try:
        model: BackboneConfig = TypeAdapter(ModelConfig).validate_python(tree["model"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("model", *first["loc"])))
        raise CheckpointError(
            f"{path} as {layout.name}: {where}: {first['msg']}. What no tensor shows is given by "
            "--set, as in --set model.heads=3"
        ) from None
    preprocessing = Preprocessing.from_json(tree["preprocessing"])
    if preprocessing.points < model.least_points:
        raise ConfigError(
            f"preprocessing.points={preprocessing.points}: the patches of this model need "
            f"{model.least_points}; give --set preprocessing.points=N or model.groups=N"
        )
    _check_head(path, layout, tree["head"], model)
    return _Plan(model, tree["head"], preprocessing)


def _check_head(path: Path, layout: Layout, head: Mapping[str, Any], model: BackboneConfig) -> None:
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
        raise ConfigError(f"head.{min(strange)}: {layout.name} has {', '.join(layout.needs)}")


def _tensors(
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
        return state | _unused(layout, state)


def _unused(layout: Layout, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """LayerNorms that published code has and never trains, as it begins with them."""
    found = {}
    for name, like in layout.unused.items():
        found[f"{name}.weight"] = torch.ones_like(state[f"{like}.weight"])
        found[f"{name}.bias"] = torch.zeros_like(state[f"{like}.bias"])
    return found


def _pooling(card: Mapping[str, Any]) -> dict[str, Any]:
    """That of a classifier: `concat` and `concat_skip_first` have the same shapes."""
    pooling = (card.get("settings") or {}).get("pooling")
    return {} if card.get("kind") != "classifier" or pooling is None else {"pooling": pooling}


def _note(there: str | None, here: str | None) -> str:
    """A warning where published code makes another feature of the tokens than this model."""
    if there == here:
        return ""
    return f"pooling: trained with {here}; published code computes {there} with these weights"


def _of_head(
    path: Path,
    layout: Layout,
    head: Mapping[str, Any],
    recipe: Recipe,
    clouds: CloudSet | None,
) -> dict[str, Any]:
    """What the card says of a classifier's or segmenter's outputs."""
    if layout.kind == "pretrain":
        return {}
    settings = {"dropout": DROPOUT} | {k: v for k, v in head.items() if k == "pooling"}
    count = head["num_classes" if layout.kind == "classifier" else "num_categories"]
    if clouds is not None:
        classes = list(clouds.class_names)
    elif len(recipe.classes) == count:
        classes = list(recipe.classes)
    else:
        classes = [f"class {number}" for number in range(count)]
    _same_number(path, "classes", count, classes)
    found: dict[str, Any] = {"settings": settings, "class_names": classes}
    if layout.kind == "classifier":
        return found
    if clouds is not None:
        parts, members = list(clouds.part_names), [list(each) for each in clouds.class_parts]
    elif recipe.parts and len(recipe.classes) == count:
        parts, members = _numbered(recipe)
    else:
        raise CheckpointError(
            f"{path}: which of the {head['num_parts']} parts belong to which of the {count} "
            "classes, no tensor shows; give --data NAME, a prepared data set that says it"
        )
    _same_number(path, "parts", head["num_parts"], parts)
    return found | {"part_names": parts, "class_parts": members}


def _same_number(path: Path, what: str, count: int, names: Sequence[str]) -> None:
    if len(names) != count:
        raise CheckpointError(
            f"{path} tells {count} {what} apart, the data set has {len(names)}; give another --data"
        )


def _numbered(recipe: Recipe) -> tuple[list[str], list[list[int]]]:
    """Names of parts, and which of them each class has, where they are numbered through."""
    names: list[str] = []
    members = []
    for name, count in zip(recipe.classes, recipe.parts, strict=True):
        members.append(list(range(len(names), len(names) + count)))
        names += [f"{name} {number}" for number in range(count)]
    return names, members
