"""Name and version of the layout of processed data sets (:mod:`sa3d.data.store` describes it)."""

from __future__ import annotations

from typing import Final

FORMAT: Final = "sa3d-clouds"
VERSION: Final = 2


def attribute_text(value: object) -> str:
    """A text attribute as it was read. Its length is fixed; in files that earlier versions wrote it
    is variable, and h5py gives such a one as ``str``."""
    return value.decode() if isinstance(value, bytes) else str(value)
