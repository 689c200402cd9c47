"""JSON files, written whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sa3d.utils.files import write_whole


def write_json(path: Path, tree: Mapping[str, Any]) -> Path:
    """Write a mapping, whole. A value that is not finite, or not plain, is a bug."""
    text = json.dumps(tree, indent=2, allow_nan=False, default=plain) + "\n"
    return write_whole(path, text.encode())


def plain(value: Any) -> Any:
    """numpy's scalars and arrays as plain values, without importing numpy."""
    plain = getattr(value, "tolist", None)
    if plain is None:
        raise TypeError(f"{type(value).__name__} is not for JSON")
    return plain()
