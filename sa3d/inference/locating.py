"""Where a model is that a person names: a folder, the registry, or the one in the box."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sa3d.checkpoints.card import FOLDER, find_model
from sa3d.errors import CheckpointError

BOXED: Final = Path(__file__).with_name("boxed")
"""The encoder that comes with this package; docs/encoder.md is about it."""
REGISTERED: Final = "models:/"

_FOREIGN: Final = (".pth", ".pt", ".ckpt", ".pkl", ".bin", ".safetensors", ".onnx")


@contextmanager
def model_folder(model: str | Path | None) -> Iterator[Path]:
    """The folder of an exported model; that of a registered one is gone after the block.

    Args:
        model: a run folder or its ``model`` folder; a registered model, as ``models:/NAME@ALIAS``;
            None: the encoder that comes with this package.

    Raises:
        CheckpointError: no such model.
        UserError: the registry has none of that name, or does not answer.
    """
    if model is None:
        yield BOXED
    elif str(model).startswith(REGISTERED):
        with tempfile.TemporaryDirectory() as scratch:
            yield _downloaded(str(model), scratch)
    else:
        path = Path(model)
        if path.is_file():
            raise CheckpointError(
                f"{path} is a file; give the folder of an exported model. A published checkpoint "
                "is made into one by `sa3d convert`"
            )
        yield find_model(path)


def names_model(text: str) -> bool:
    """Whether a word of a command line means a model rather than a cloud or a folder of clouds."""
    path = Path(text)
    marks = ("model.json", "model/model.json", "journal.jsonl")
    return (
        text.startswith(REGISTERED)
        or path.suffix.lower() in _FOREIGN
        or any((path / mark).is_file() for mark in marks)
    )


def _downloaded(uri: str, scratch: str) -> Path:
    from sa3d.tracking import keys
    from sa3d.tracking.versions import download, find, reference, store

    name, which = reference(uri, keys.CHAMPION)
    with store() as opened:
        return download(opened, find(opened, name, which), f"data/{FOLDER}", scratch)
