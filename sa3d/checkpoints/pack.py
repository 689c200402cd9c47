"""An encoder alone, small enough to be given away: no decoder, matrices in half precision.

Its card keeps what the pre-training's card says, and adds what its run folder knows of how it was
trained and what was measured with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from sa3d.checkpoints.card import FOLDER, WEIGHTS_FILE
from sa3d.checkpoints.export import checked_card, export_model, read_weights
from sa3d.errors import CheckpointError
from sa3d.tracking.journal import FILE, entries
from sa3d.utils.paths import RESULT

_PREFIX: Final = "backbone.encoder."
_KEPT: Final = ("experiment", "spec", "fingerprint", "model", "settings", "data", "preprocessing")


@dataclass(frozen=True)
class Packed:
    """What was written: the folder, bytes of the weights, and how many numbers those are."""

    folder: Path
    size: int
    parameters: int


def pack_encoder(run: Path, out: Path, evidence: Sequence[Path] = (), note: str = "") -> Packed:
    """Write the encoder of a finished pre-training to the folder ``out``.

    Args:
        run: its run folder.
        out: made if needed.
        evidence: what the card shall tell beside: run folders of evaluations of this model, of
            baselines, and of the pre-training of its teacher; or JSON files of other measurements,
            which go into the card as they are.
        note: a sentence for the card.

    Raises:
        CheckpointError: not the run folder of a finished pre-training; evidence that cannot be
            read.
    """
    card = checked_card(run, "pretrain")
    state = half(read_weights(run / FOLDER, card))
    told = [_evidence(path) for path in evidence]
    export_model(
        out,
        state,
        {
            "kind": "encoder",
            **{key: card[key] for key in _KEPT},
            "note": note,
            "weights": {
                "of": card["sha256"],
                "stored_as": "matrices float16, vectors float32",
            },
            "training": _training(run),
            "teachers": [each for each in told if each.get("task") == "pretrain"],
            "measured": [each for each in told if each.get("task") != "pretrain"],
        },
    )
    parameters = sum(value.numel() for value in state.values())
    return Packed(out, (out / WEIGHTS_FILE).stat().st_size, parameters)


def half(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's part of an exported state, with matrices in half precision.

    Biases, scales and statistics of normalisation stay as they are: they are a hundredth of it.

    Raises:
        CheckpointError: a value that half precision cannot hold.
    """
    found = {}
    for name, value in state.items():
        if name.startswith(_PREFIX):
            small = value.ndim > 1 and value.is_floating_point()
            found[name] = value.half() if small else value
            if not torch.isfinite(found[name]).all():
                raise CheckpointError(f"{name} has values that half precision cannot hold")
    return found


def _evidence(path: Path) -> dict[str, Any]:
    if path.is_dir():
        return _training(path) if _result(path)["spec"]["task"] == "pretrain" else _evaluation(path)
    return _json(path)


def _training(run: Path) -> dict[str, Any]:
    """How a pre-training went, from its run folder."""
    result, tags = _result(run), _tags(run)
    return {
        "task": "pretrain",
        "variant": result["spec"]["variant"],
        "seed": result["spec"]["seed"],
        "clouds": result["data"]["train"],
        "protocol": result["protocol"],
        "last_metrics": result["metrics"],
        "seconds": result["seconds"],
        "device": result["device"],
        "versions": result["versions"],
        "code": tags.get("code"),
        "fingerprint": result["fingerprint"],
    }


def _evaluation(run: Path) -> dict[str, Any]:
    """What an evaluation found, from its run folder."""
    result = _result(run)
    spec, data = result["spec"], result["data"]
    return {
        "task": spec["task"],
        "variant": spec["variant"],
        "label": spec["label"],
        "fold": spec["fold"],
        "data": {key: data[key] for key in ("name", "digest", "train", "test", "floor")},
        "metrics": result["metrics"],
        "fingerprint": result["fingerprint"],
    }


def _tags(run: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in entries(run / FILE):
        if entry["kind"] == "tags":
            found |= entry["values"]
    return found


def _result(run: Path) -> dict[str, Any]:
    return _json(run / RESULT)


def _json(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        tree = None
    if not isinstance(tree, dict):
        raise CheckpointError(f"cannot read {path}; give run folders of finished runs, or JSON")
    return tree
