"""SA3D: masked autoencoders on point clouds that mask the geometrically hard patches first.

    import sa3d
    encoder = sa3d.load_encoder()
    features = encoder.embed(["a.ply", points])

    model = sa3d.load_model("work/classify-...")
    found = model.predict(["a.ply", points])

Importing this imports nothing else: what it offers is looked up when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sa3d.inference.classes import ClassPredictor
    from sa3d.inference.encoder import Encoder, load_encoder
    from sa3d.inference.index import Index, open_index
    from sa3d.inference.indexing import build_index
    from sa3d.inference.loading import load_model
    from sa3d.inference.parts import PartPredictor

__version__ = "0.1.0"
__all__ = [
    "ClassPredictor",
    "Encoder",
    "Index",
    "PartPredictor",
    "__version__",
    "build_index",
    "load_encoder",
    "load_model",
    "open_index",
]

_OFFERED = {
    "ClassPredictor": "sa3d.inference.classes",
    "PartPredictor": "sa3d.inference.parts",
    "load_model": "sa3d.inference.loading",
    **dict.fromkeys(("Encoder", "load_encoder"), "sa3d.inference.encoder"),
    **dict.fromkeys(("Index", "open_index"), "sa3d.inference.index"),
    "build_index": "sa3d.inference.indexing",
}


def __getattr__(name: str) -> Any:
    if name not in _OFFERED:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(_OFFERED[name]), name)
