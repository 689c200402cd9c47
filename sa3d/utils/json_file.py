"""JSON files: written whole, and read with an error that names the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sa3d.errors import UserError
from sa3d.utils.files import write_whole


def write_json(path: Path, tree: Mapping[str, Any]) -> Path:
    """Write a mapping, whole. A value that is not finite, or not plain, is a bug."""
    text = json.dumps(tree, indent=2, allow_nan=False, default=_plain) + "\n"
    return write_whole(path, text.encode())


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """The mapping in a file.

    Args:
        path: the file.
        remedy: what the user may do when it cannot be read, the end of the message.

    Raises:
        UserError: missing, unreadable, cut short, or no mapping.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or "it is not whole JSON"
        raise UserError(f"cannot read {path}: {said}; {remedy}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path} holds {type(tree).__name__}, not a mapping; {remedy}")
    return tree


def _plain(value: Any) -> Any:
    """numpy's scalars and arrays as plain values, without importing numpy."""
    plain = getattr(value, "tolist", None)
    if plain is None:
        raise TypeError(f"{type(value).__name__} is not for JSON")
    return plain()
