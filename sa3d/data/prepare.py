"""From a named source to its processed file, and what ``sa3d data check`` says of it."""

from __future__ import annotations

from pathlib import Path

from sa3d import components
from sa3d.config import Source


def prepare(name: str, source: Source, out: Path, *, quiet: bool = False) -> Path:
    """Make the processed file ``out`` of data set ``name`` with its source module.

    Raises:
        DataError: raw data missing or incomplete, a bad cloud, a full disk.
        ConfigError: a source that is not registered.
    """
    make = components.load(components.DATASETS, "data source", source.source)
    result: Path = make(source, Path(out), quiet=quiet)
    return result
