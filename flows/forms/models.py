"""A model as people name it: in the registry, or as a folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sa3d.checkpoints.card import find_model, model_card
from sa3d.errors import CheckpointError

# what names a version of a registered model even without models:/ before it
_VERSION = re.compile(r"[^/@:]+(?:@[^/@:]+|/\d+)")


@dataclass(frozen=True)
class Encoder:
    """An exported encoder.

    Attributes:
        name: of it, for folders and titles.
        folder: with its weights and its card.
        card: what it says of itself.
        variant: how an experiment calls it. For one that was pre-trained here the variant that it
            was, so that evaluations that were made with it are found again.
    """

    name: str
    folder: Path
    card: dict[str, Any]
    variant: str


def encoder(reference: str) -> Encoder:
    """The encoder that a user means.

    Args:
        reference: a folder, ``models:/NAME@ALIAS``, ``models:/NAME/VERSION``, or ``models:/NAME``
            for its champion.

    Raises:
        CheckpointError: there is none, or it is no pre-trained encoder.
        UserError: what follows ``models:/`` is no name; the registry has no such model, or does
            not answer.
    """
    text = reference.strip()
    path = Path(text).expanduser()
    if text.startswith("models:/") or (_VERSION.fullmatch(text) and not path.exists()):
        from sa3d.tracking import model_download, versions

        name, path = model_download.download(*versions.reference(text, "champion"))
    else:
        path = find_model(path).resolve()
        name = _slug(path.parent.name if path.name == "model" else path.name)
    card = model_card(path)
    if card.get("kind") != "pretrain":
        raise CheckpointError(
            f"model = {reference}: it is a {card.get('kind')}; give a pre-trained encoder"
        )
    variant = (card.get("spec") or {}).get("variant") or name
    return Encoder(name, path, card, _slug(str(variant)))


def _slug(text: str) -> str:
    """A name as experiments and variants may have it."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._") or "model"
