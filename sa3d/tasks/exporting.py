"""The exported model of a run, with a card that says what made it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from sa3d.checkpoints.card import FOLDER
from sa3d.checkpoints.export import export_model
from sa3d.data.preprocessing import Preprocessing
from sa3d.data.store import CloudSet
from sa3d.runs.config import RunConfig
from sa3d.runs.context import RunContext


def export(
    kind: Literal["pretrain", "classifier", "segmenter"],
    state: Mapping[str, Tensor],
    config: RunConfig,
    context: RunContext,
    clouds: CloudSet,
    **more: Any,
) -> None:
    """Write ``model/`` into the run folder.

    Args:
        kind: what the weights are; who loads them asks for it.
        state: the weights.
        config: of the run.
        context: where and how.
        clouds: the data that it was trained on.
        more: further entries of the card.
    """
    card = {
        "kind": kind,
        "experiment": config.experiment,
        "spec": config.spec.as_json(),
        "fingerprint": context.fingerprint,
        "model": config.model.model_dump(mode="json"),
        "settings": config.settings.model_dump(mode="json"),
        "data": {**config.data.model_dump(mode="json"), "digest": clouds.digest},
        "preprocessing": Preprocessing.of(clouds, config.data.points).to_json(),
        **more,
    }
    export_model(context.folder / FOLDER, state, card)
