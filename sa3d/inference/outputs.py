"""Which files of a folder this program wrote, so that it does not take them for clouds."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Final

_PARTS: Final = (".parts.ply", ".parts.npy")  # of `sa3d predict`, always both
_IDS: Final = ".ids.txt"  # beside the .npy of `sa3d embed`
_TABLE: Final = frozenset({"ids.npy", "features.npy"})  # the .npz of `sa3d embed`
_INDEX: Final = "sa3d_index.npy"  # in that of `sa3d index`


def is_output(file: Path) -> bool:
    """Whether a file is a table of features, predicted parts or an index of shapes."""
    name = file.name
    for suffix in _PARTS:
        if name.endswith(suffix):
            stem = name.removesuffix(suffix)
            return all(file.with_name(stem + each).exists() for each in _PARTS)
    if name.endswith(_IDS):
        return file.with_name(f"{name.removesuffix(_IDS)}.npy").exists()
    if file.suffix.lower() == ".npy":
        return file.with_suffix(_IDS).exists()
    return file.suffix.lower() == ".npz" and _is_table_or_index(file)


def _is_table_or_index(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            names = set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False  # whoever reads it says what is wrong with it
    return names == _TABLE or _INDEX in names
