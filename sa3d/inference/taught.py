"""Taught models in folders, with the weights of encoder and head: nothing else is needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sa3d.checkpoints.card import MODEL_FILE, WEIGHTS_FILE, model_card
from sa3d.data.preprocessing import Axis
from sa3d.errors import CheckpointError
from sa3d.inference.encoder import Encoder
from sa3d.inference.teaching import Examples, Taught, card_of


def check_place(out: Path) -> None:
    """Refuse, before any work is done, to replace a model that was trained.

    Raises:
        CheckpointError: there is one that ``teach`` did not write.
    """
    if (out / MODEL_FILE).exists() and model_card(out).get("kind") != "taught":
        raise CheckpointError(f"--out {out}: a trained model is there; choose another folder")


def write_taught(
    out: Path, encoder_folder: Path, encoder: Encoder, given: Examples, taught: Taught, up: Axis
) -> int:
    """Write the model.

    Args:
        out: folder, made if needed.
        encoder_folder: where the encoder's weights are; they are taken as they are stored.
        encoder: loaded from there.
        given: what was learnt from.
        taught: what was learnt.
        up: the axis of those clouds that points up.

    Returns:
        Bytes of the weights.

    Raises:
        WriteError: full disk, no permission.
    """
    import torch

    from sa3d.checkpoints.export import export_model, read_weights

    weights = read_weights(encoder_folder, encoder.card)
    state = {name: value for name, value in weights.items() if name.startswith("backbone.encoder.")}
    state["head.weight"] = torch.from_numpy(taught.weight.astype(np.float32))
    state["head.bias"] = torch.from_numpy(taught.bias.astype(np.float32))
    export_model(out, state, card_of(given, taught, encoder, up))
    return (out / WEIGHTS_FILE).stat().st_size
