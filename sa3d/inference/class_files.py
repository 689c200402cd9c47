"""Predicted classes in a file or on a terminal; files are written whole."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from sa3d.inference.classes import Classified
from sa3d.utils.files import write_whole
from sa3d.utils.json_file import write_json
from sa3d.utils.places import check_output


def check_format(out: Path) -> None:
    """Refuse, before any work is done, a file that could not be written; see
    :func:`~sa3d.utils.places.check_output`."""
    needs = ["pyarrow"] if out.suffix.lower() == ".parquet" else []
    check_output(out, _FORMATS, needs, "--out")


def write_classes(out: Path, found: Classified) -> Path:
    """Write id, class, its probability, and that of every class, in the format that the suffix of
    ``out`` says.

    Raises:
        WriteError: full disk, no permission.
    """
    return _FORMATS[out.suffix.lower()](out, found)


def lines(found: Classified) -> Iterator[str]:
    """A table for people: the likeliest class and the one after it, with their probabilities."""
    width = max(len(name) for name in found.class_names)
    for name, row in zip(found.ids, found.probabilities, strict=True):
        likeliest = row.argsort()[::-1][:2]
        told = "  ".join(f"{found.class_names[at]:<{width}} {row[at]:6.1%}" for at in likeliest)
        yield f"{told}  {name}"


def _table(found: Classified) -> dict[str, list[Any]]:
    """Columns by name."""
    columns: dict[str, list[Any]] = {
        "id": list(found.ids),
        "class": list(found.classes),
        "probability": [float(f"{row.max():.6g}") for row in found.probabilities],
    }
    for name, column in zip(found.class_names, found.probabilities.T, strict=True):
        columns[f"p({name})"] = [float(f"{value:.6g}") for value in column]
    return columns


def _csv(out: Path, found: Classified) -> Path:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    columns = _table(found)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return write_whole(out, text.getvalue().encode())


def _parquet(out: Path, found: Classified) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(_table(found)), sink)
    return write_whole(out, memoryview(sink.getvalue()))


def _json(out: Path, found: Classified) -> Path:
    columns = _table(found)
    clouds = [
        {"id": name, "class": said, "probability": most, "probabilities": list(row)}
        for name, said, most, *row in zip(*columns.values(), strict=True)
    ]
    failures = [failure._asdict() for failure in found.failures]
    return write_json(
        out, {"class_names": list(found.class_names), "clouds": clouds, "failures": failures}
    )


_FORMATS: Final[Mapping[str, Callable[[Path, Classified], Path]]] = {
    ".csv": _csv,
    ".parquet": _parquet,
    ".json": _json,
}
