"""Files packed with gzip under the name of what they hold, as some exporters write VRML."""

from __future__ import annotations

import gzip
import io
import zlib
from typing import Final

MAX_UNPACKED: Final = 256 * 1024 * 1024
"""Bytes of a file once unpacked; a few kilobytes can claim to be more than the memory holds."""

_GZIP: Final = b"\x1f\x8b"


def unpacked(data: bytes) -> bytes:
    """What is packed in ``data`` if gzip packed it, else ``data`` itself.

    Raises:
        ValueError: it is damaged, or holds more than :data:`MAX_UNPACKED`.
    """
    if not data.startswith(_GZIP):
        return data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            content = file.read(MAX_UNPACKED + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"is packed with gzip and damaged: {error}") from error
    if len(content) > MAX_UNPACKED:
        raise ValueError(f"is packed with gzip and holds more than {MAX_UNPACKED >> 20} MB")
    return content
