"""SA3D: masked autoencoders on point clouds that mask the geometrically hard patches first.

    import sa3d
    encoder = sa3d.load_encoder()
    features = encoder.embed(["a.ply", points])

Importing this imports nothing else: what it offers is looked up when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sa3d.inference.encoder import Encoder, load_encoder
    from sa3d.inference.index import Index, build_index, open_index

__version__ = "0.1.0"
__all__ = ["Encoder", "Index", "__version__", "build_index", "load_encoder", "open_index"]

_OFFERED = {
    **dict.fromkeys(("Encoder", "load_encoder"), "sa3d.inference.encoder"),
    **dict.fromkeys(("Index", "build_index", "open_index"), "sa3d.inference.index"),
}


def __getattr__(name: str) -> Any:
    if name not in _OFFERED:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(_OFFERED[name]), name)
