"""What is packed in a file: by gzip under the name of what it holds, as some exporters write VRML,
or by a format that packs its points; and how large that may become."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

MAX_UNPACKED: Final = 64 << 20
"""Bytes of a file that gzip packed, once unpacked; VRML models have a few million."""

_GZIP: Final = b"\x1f\x8b"
_SMALL: Final = 8 << 20  # unpacked, may be packed to however little
_LARGEST_RATIO: Final = 30  # of a larger file to its packed bytes
_most: ContextVar[int | None] = ContextVar("most", default=None)


@contextmanager
def unpacking_at_most(size: int) -> Iterator[None]:
    """Within it, no file is unpacked to more than ``size`` bytes, whatever packed it."""
    token = _most.set(size)
    try:
        yield
    finally:
        _most.reset(token)


def check_unpacked(size: int) -> None:
    """Refuse what becomes too large, before memory is taken for it.

    Raises:
        ValueError: it is larger than :func:`unpacking_at_most` allows.
    """
    most = _most.get()
    if most is not None and size > most:
        raise ValueError(f"its content is {size} bytes once unpacked, more than the {most} allowed")


def unpacked(data: bytes) -> bytes:
    """What is packed in ``data`` if gzip packed it, else ``data`` itself.

    Raises:
        ValueError: it is damaged, or holds more than it may.
    """
    if not data.startswith(_GZIP):
        return data
    most = min(MAX_UNPACKED, max(_SMALL, _LARGEST_RATIO * len(data)))
    asked = _most.get()
    most = most if asked is None else min(most, asked)
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            content = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"is packed with gzip and damaged: {error}") from error
    if len(content) > most:
        raise ValueError(
            f"is packed with gzip, {len(data)} bytes that hold more than {most}; unpack it first"
        )
    return content
