"""Features in a file, with the ids of their clouds; written whole."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from sa3d.inference.encoder import Embedded
from sa3d.utils.files import write_whole
from sa3d.utils.places import check_output


def check_format(out: Path) -> None:
    """Refuse, before any work is done, a file that could not be written; see
    :func:`~sa3d.utils.places.check_output`."""
    needs = ["pyarrow"] if out.suffix.lower() == ".parquet" else []
    check_output(out, _FORMATS, needs, "--out")


def write_table(out: Path, found: Embedded) -> list[Path]:
    """Write ids and features, in the format that the suffix of ``out`` says.

    Returns:
        What was written: ``.npy`` has no place for ids, so they are in a text file beside it.

    Raises:
        WriteError: full disk, no permission.
    """
    return _FORMATS[out.suffix.lower()](out, found)


def _npz(out: Path, found: Embedded) -> list[Path]:
    buffer = io.BytesIO()
    np.savez(buffer, ids=np.array(found.ids, dtype=np.str_), features=found.features)
    return [write_whole(out, buffer.getbuffer())]


def _npy(out: Path, found: Embedded) -> list[Path]:
    buffer = io.BytesIO()
    np.save(buffer, found.features)
    lines = [name.replace("\n", "\\n") for name in found.ids]
    ids = write_whole(out.with_suffix(".ids.txt"), "".join(f"{line}\n" for line in lines).encode())
    return [write_whole(out, buffer.getbuffer()), ids]


def _parquet(out: Path, found: Embedded) -> list[Path]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    width = found.features.shape[1]
    rows: Any = pa.FixedSizeListArray.from_arrays(pa.array(found.features.reshape(-1)), width)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": pa.array(found.ids, pa.string()), "features": rows}), sink)
    return [write_whole(out, memoryview(sink.getvalue()))]


_FORMATS: Final[Mapping[str, Callable[[Path, Embedded], list[Path]]]] = {
    ".npz": _npz,
    ".npy": _npy,
    ".parquet": _parquet,
}
