"""Any exported model, loaded as what its card says it is.

model = sa3d.load_model("work/classify-...")
found = model.predict(["a.ply", points])
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sa3d.checkpoints.card import model_card
from sa3d.errors import CheckpointError
from sa3d.inference.classes import ClassPredictor
from sa3d.inference.encoder import Encoder
from sa3d.inference.locating import model_folder
from sa3d.inference.parts import PartPredictor

Loaded = Encoder | ClassPredictor | PartPredictor

_CLASSES: Final[tuple[type[Encoder] | type[ClassPredictor] | type[PartPredictor], ...]] = (
    Encoder,
    ClassPredictor,
    PartPredictor,
)


def load_model(model: str | Path | None = None) -> Loaded:
    """A model, ready for ``predict`` and ``predict_all``.

    Args:
        model: a run folder or its ``model`` folder; a registered model, as ``models:/NAME@ALIAS``;
            None: the encoder that comes with this package.

    Returns:
        An encoder gives features, a classifier probabilities of classes, a segmentation model the
        part of every point.

    Raises:
        CheckpointError: no such model, a damaged one, or of a kind unknown to this version.
        UserError: the registry has none of that name, or does not answer.
    """
    with model_folder(model) as folder:
        kind = model_card(folder).get("kind")
        for each in _CLASSES:
            if kind in each.kinds:
                return each(folder)
        known = ", ".join(name for each in _CLASSES for name in each.kinds)
        raise CheckpointError(f"{folder} holds a model of kind {kind!r}; known are {known}")
