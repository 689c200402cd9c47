"""A model of any kind, ready to be exported: its graph, what it answers here, what is told of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from sa3d.checkpoints.card import model_card
from sa3d.checkpoints.export import ENCODERS
from sa3d.checkpoints.load import load_classifier, load_encoder, load_segmenter
from sa3d.data.preprocessing import Preprocessing
from sa3d.data.store import Ints, Points
from sa3d.deploy.graph import ClassifierGraph, EncoderGraph, SegmenterGraph
from sa3d.errors import CheckpointError

_NORMALISING: Final = {
    "subsample": "these are then scaled to the unit sphere",
    "cloud": "the whole cloud is scaled to the unit sphere before",
    "none": "coordinates stay as they are",
}


@dataclass(frozen=True)
class Deployable:
    """A model that can be written as a graph.

    Attributes:
        graph: clouds (B, n, 3) float32, and for a segmenter their categories, to the outputs.
        outputs: their names.
        categories: how many categories a segmenter knows; 0 for others.
        answer: the same outputs by the ordinary way: :class:`Preprocessing`, then the model.
        card: of the model.
        preprocessing: of the model.
    """

    graph: nn.Module
    outputs: tuple[str, ...]
    categories: int
    answer: Callable[[Sequence[Points], Ints], tuple[Tensor, ...]]
    card: dict[str, Any]
    preprocessing: Preprocessing

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return ("points", "category") if self.categories else ("points",)

    def metadata(self) -> dict[str, str]:
        """What a file says of itself: texts and JSON, by name."""
        names = ("class_names", "part_names", "class_parts")
        told = {f"sa3d.{name}": json.dumps(self.card[name]) for name in names if name in self.card}
        return {
            "sa3d.kind": str(self.card["kind"]),
            "sa3d.sha256": str(self.card["sha256"]),
            **told,
            "sa3d.inside": (
                f"of each cloud {self.preprocessing.points} farthest points, beginning with its "
                "first; a smaller cloud is repeated; "
                f"{_NORMALISING[self.preprocessing.normalisation]}; patches; the model"
            ),
            "sa3d.caller": (
                "points (B, n, 3) float32, finite, not all equal, with y up; n may differ from call "
                "to call, not within one; move coordinates far from the origin near it in double "
                "precision before they become float32"
                + ("; category (B,) int64, index into class_names" if self.categories else "")
            ),
            "sa3d.card": json.dumps(self.card),
        }


def deployable(folder: Path) -> Deployable:
    """An exported model by its folder.

    Raises:
        CheckpointError: no such model, damaged, of a kind that cannot be exported, or one that does
            not say how its clouds are prepared.
    """
    kind = model_card(folder).get("kind")
    if kind in ENCODERS:
        return _encoder(folder)
    if kind == "classifier":
        return _classifier(folder)
    if kind == "segmenter":
        return _segmenter(folder)
    raise CheckpointError(
        f"{folder} holds a {kind}; encoders, classifiers and segmenters can be exported"
    )


def _encoder(folder: Path) -> Deployable:
    backbone, card = load_encoder(folder)
    if card["kind"] == "pretrain":
        del backbone.decoder  # features need none
    preprocessing = Preprocessing.from_json(card.get("preprocessing"))

    def answer(clouds: Sequence[Points], _: Ints) -> tuple[Tensor, ...]:
        return (backbone.features(preprocessing.batch(clouds)),)

    graph = EncoderGraph(backbone, preprocessing)
    return Deployable(graph.eval(), ("features",), 0, answer, card, preprocessing)


def _classifier(folder: Path) -> Deployable:
    classifier, card = load_classifier(folder)
    preprocessing = Preprocessing.from_json(card.get("preprocessing"))

    def answer(clouds: Sequence[Points], _: Ints) -> tuple[Tensor, ...]:
        return (classifier(preprocessing.batch(clouds)),)

    graph = ClassifierGraph(classifier, preprocessing)
    return Deployable(graph.eval(), ("logits",), 0, answer, card, preprocessing)


def _segmenter(folder: Path) -> Deployable:
    segmenter, card = load_segmenter(folder)
    preprocessing = Preprocessing.from_json(card.get("preprocessing"))

    def answer(clouds: Sequence[Points], categories: Ints) -> tuple[Tensor, ...]:
        ready, rows = preprocessing.seen(clouds)
        logits = segmenter(ready, torch.from_numpy(categories))
        return logits, torch.from_numpy(np.stack(rows))

    graph = SegmenterGraph(segmenter, preprocessing)
    outputs, known = ("logits", "index"), len(card["class_names"])
    return Deployable(graph.eval(), outputs, known, answer, card, preprocessing)
