"""Points as text: one a row, its numbers separated by blanks or commas."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa3d.data.cloud_table import Cloud

_WIDTHS = (3, 4, 6, 7)
_BOM = b"\xef\xbb\xbf"


def read_text(data: bytes) -> Cloud:
    """Rows of 3, 4, 6 or 7 numbers: coordinates; with a label; with a normal or a colour; with
    both."""
    data = data.removeprefix(_BOM)
    try:
        rows = np.loadtxt(io.BytesIO(data.replace(b",", b" ")), comments="#", ndmin=2)
    except ValueError as error:
        raise ValueError(_where(data) or str(error)) from None
    return cloud_of_rows(rows)


def cloud_of_rows(rows: NDArray[Any]) -> Cloud:
    """The cloud in the columns of an array.

    The last of 4 or 7 columns is a label if it holds whole numbers from 0 up; else it is something
    else, such as an intensity, and is passed over like normals and colours.

    Raises:
        ValueError: no array of numbers, or of another width.
    """
    if rows.ndim != 2 or rows.shape[1] not in _WIDTHS or rows.dtype.kind not in "fiu":
        raise ValueError(
            f"an array of shape {rows.shape} and type {rows.dtype}, expected numbers in 3, 4, 6 or "
            "7 columns"
        )
    points = rows[:, :3].astype(np.float64)
    if rows.shape[1] in (3, 6):
        return Cloud(points)
    last = rows[:, -1]
    whole = bool(np.isfinite(last).all() and (last >= 0).all() and (last == np.rint(last)).all())
    return Cloud(points, last.astype(np.int64) if whole else None)


def _where(data: bytes) -> str:
    """The first row that is no row of numbers as the one before it; empty if there is none."""
    width = 0
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), start=1):
        words = line.partition("#")[0].replace(",", " ").split()
        try:
            [float(word) for word in words]
        except ValueError:
            return f"row {number} is not numbers: '{line[:40]}'"
        if words and width and len(words) != width:
            return f"row {number} has {len(words)} numbers, the rows before it {width}"
        width = len(words) or width
    return ""
