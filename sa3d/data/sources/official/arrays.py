"""One raw file to one array: rows of numbers as text, or NumPy's own format."""

from __future__ import annotations

import codecs
import io

import numpy as np
from numpy.typing import NDArray

from sa3d.errors import DataError

Floats = NDArray[np.float32]


def parse_text(data: bytes, name: str, width: int, delimiter: str | None) -> Floats:
    """(n, width) numbers of a text file, a row a line.

    NumPy's C parser: measured as fast as those of pandas and pyarrow on files of ModelNet40.

    Args:
        data: content of the file.
        name: what messages call it.
        width: numbers in every row.
        delimiter: between the numbers; None: any blanks.

    Raises:
        DataError: naming the first row of another width, with something that is no number, or
            with one that is not finite.
    """
    try:
        text = data.removeprefix(codecs.BOM_UTF8).decode("ascii")
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is not a text file; fetch it again") from error
    if not text.strip():
        raise DataError(f"{name} is empty; fetch it again")
    try:
        rows = np.loadtxt(
            io.StringIO(text, newline=None),
            dtype=np.float32,
            delimiter=delimiter,
            comments=None,
            ndmin=2,
        )
    except ValueError as error:
        said = " ".join(str(error).split())
        raise DataError(_explained(text, name, width, delimiter) or f"{name}: {said}") from error
    if rows.shape[1] != width:
        raise DataError(_explained(text, name, width, delimiter) or f"{name}: {rows.shape}")
    return require_finite(rows, name)


def parse_npy(data: bytes, name: str) -> Floats:
    """(n, 3) points of a ``.npy`` file; one that holds pickled objects is refused.

    Raises:
        DataError: truncated, of another shape or type, or with a point that is not finite.
    """
    try:
        found = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # of a header that is no Python literal, whatever its parser raises
        said = " ".join(str(error).split())[:200]
        raise DataError(f"{name} is truncated or no NumPy array ({said}); fetch it again") from (
            error
        )
    return as_rows(found, name, (3,))


def as_rows(array: object, name: str, widths: tuple[int, ...]) -> Floats:
    """``array`` as finite float32 rows of one of ``widths``.

    Raises:
        DataError: it is something else.
    """
    if not (
        isinstance(array, np.ndarray)
        and array.dtype.kind in "fiu"
        and array.ndim == 2
        and array.shape[1] in widths
        and len(array)
    ):
        what = (array.dtype, array.shape) if isinstance(array, np.ndarray) else type(array)
        allowed = " or ".join(f"(points, {width})" for width in widths)
        raise DataError(f"{name} holds {what}, expected numbers of shape {allowed}")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is refused
        return require_finite(np.ascontiguousarray(array, dtype=np.float32), name)


def require_finite(rows: Floats, name: str) -> Floats:
    """``rows`` themselves.

    Raises:
        DataError: naming the first row that is not finite.
    """
    if not np.isfinite(rows).all():
        row = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise DataError(f"{name}: row {row + 1} is not finite: {rows[row].tolist()}")
    return rows


def _explained(text: str, name: str, width: int, delimiter: str | None) -> str | None:
    """What is wrong with the first bad row."""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        words = line.split(delimiter)
        if len(words) != width:
            return f"{name}: row {number} has {len(words)} numbers, expected {width}"
        for word in words:
            try:
                float(word)
            except ValueError:
                return f"{name}: row {number} has {word.strip()!r}, which is no number"
    return None
