"""Acting as a user without rights, which root has to become first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def another_user() -> Iterator[None]:
    """Root may read and write everywhere: as nobody for the length of the block."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)
