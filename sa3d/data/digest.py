"""The digest of a processed file's content."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from sa3d.utils.layout import FORMAT, VERSION

if TYPE_CHECKING:
    from sa3d.data.store import CloudSet

BLOCK_BYTES = 16 << 20  # read, written and hashed at a time


class ContentDigest:
    """sha256 over the sha256 of every array with its name, type and shape, and what else counts.

    Of each array its own, so that the flat ones can be hashed side by side as clouds come.
    """

    def __init__(self) -> None:
        self._hashes: dict[str, Any] = {}
        self._kinds: dict[str, tuple[str, tuple[int, ...]]] = {}
        self._rows: dict[str, int] = {}

    def add(self, name: str, block: NDArray[Any]) -> None:
        """The next rows of an array."""
        self._hashes.setdefault(name, hashlib.sha256()).update(np.ascontiguousarray(block).data)
        self._kinds[name] = block.dtype.str, block.shape[1:]
        self._rows[name] = self._rows.get(name, 0) + len(block)

    def text(self, normalisation: str) -> str:
        """The digest, 64 hex digits."""
        lines = [f"{FORMAT} {VERSION} {normalisation}"]
        for name in sorted(self._hashes):
            dtype, row = self._kinds[name]
            shape = (self._rows[name], *row)
            lines.append(f"{name} {dtype} {shape} {self._hashes[name].hexdigest()}")
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def content_digest(clouds: CloudSet) -> str:
    """Digest recomputed from the whole content, to compare with ``clouds.digest``."""
    digest = ContentDigest()
    with h5py.File(clouds.path, "r") as file:
        for name, array in file.items():
            step = max(1, BLOCK_BYTES // (array.dtype.itemsize * int(np.prod(array.shape[1:]))))
            for row in range(0, len(array), step):
                digest.add(name, array[row : row + step])
    return digest.text(clouds.normalisation)
