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

from torch import Tensor

from sa3d.checkpoints.blueprint import blueprint, check_head, tensors_of, unused_norms
from sa3d.checkpoints.card import MODEL_FILE, find_model, model_card
from sa3d.checkpoints.containers import EMA, read_published, write_published
from sa3d.checkpoints.conversion_report import Report
from sa3d.checkpoints.export import checked_card, export_model, read_weights
from sa3d.checkpoints.load import model_of
from sa3d.checkpoints.renaming import (
    Comparison,
    Leniency,
    Side,
    compare,
    layouts,
    recognise,
    to_ours,
    to_theirs,
)
from sa3d.data.store import open_clouds
from sa3d.errors import CheckpointError
from sa3d.models.official import KEPT, Layout
from sa3d.utils.text import examples

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
    plan = blueprint(path, backbone, layout, shapes, reading.settings, clouds)
    found = compare(published.state, to_theirs(plan.tensors("meta"), layout).state)
    reading.leniency.check(f"{path} ({name})", found)
    state = to_ours({key: published.state[key] for key in found.loaded}, layout).state
    fresh = {}
    if found.missing:
        fresh = {
            key: value
            for key, value in plan.tensors("cpu").items()
            if key not in state and not key.startswith(f"{KEPT}.")
        }
    report = Report(layout, published.container, published.epoch, found, tuple(fresh), plan)
    card = {
        "kind": layout.kind,
        "model": plan.model.model_dump(mode="json"),
        "preprocessing": plan.preprocessing.to_json(),
        **plan.outputs(),
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
    check_head(folder, layout, head, model)
    filled = {key: value for key, value in unused_norms(layout, state).items() if key not in state}
    renamed = to_theirs(state | filled, layout)
    expected = to_theirs(tensors_of(layout, model, head, "meta"), layout).state
    found = compare(renamed.state, expected)
    found = Comparison(
        found.loaded, found.missing, found.unexpected + renamed.unknown, found.misshapen
    )
    leniency.check(f"{folder} ({name})", found)
    container, epoch = before.get("container", layout.container), before.get("epoch")
    if container == EMA:
        container = layout.container
    write_published(file, {key: renamed.state[key] for key in found.loaded}, container, epoch)
    note = _note(inferred.head.get("pooling"), head.get("pooling"))
    return Report(layout, container, epoch, found, tuple(filled), None, note)


def _must_be_new(path: Path) -> None:
    if path.exists():
        raise CheckpointError(f"{path} is there already; choose another --out or delete it")


def _named(
    path: Path,
    wanted: str | None,
    state: Mapping[str, Tensor],
    side: Side,
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
        tensors = "the tensor" if len(state) == 1 else "the tensors"
        raise CheckpointError(
            f"{path} is of no layout known here ({', '.join(known) or 'there is none for it'}); "
            f"it has {tensors} {examples(list(state), 3)}"
        )
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
