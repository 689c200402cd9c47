"""From a named source to its processed file, and what ``sa3d data check`` says of it."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sa3d import registry
from sa3d.config.base import Frozen
from sa3d.config.obtain import how_to_replace
from sa3d.data.raw import RawCheck
from sa3d.data.store import TEST, TRAIN, VALIDATION, CloudSet, content_digest, open_clouds
from sa3d.errors import ConfigError, DataError


def prepare(
    name: str, source: Frozen, out: Path, *, quiet: bool = False, allow_missing: bool = False
) -> Path:
    """Make the processed file ``out`` of data set ``name`` with its source module.

    ``allow_missing`` makes it of what is there where files that the data set's lists name are
    missing; sources with such lists take it, and their summary says what was missing.

    Raises:
        DataError: raw data missing or incomplete, a bad cloud, a full disk.
        ConfigError: a source that is not registered, or ``allow_missing`` with one that has no
            lists.
    """
    make = registry.load(registry.SOURCES, "data source", _kind(source))
    options: dict[str, bool] = {"quiet": quiet}
    if allow_missing:
        if "allow_missing" not in inspect.signature(make).parameters:
            raise ConfigError(
                f"--allow-missing: data set {name} has no list of files, so none can be missing; "
                "leave the option out"
            )
        options["allow_missing"] = True
    result: Path = make(source, Path(out), **options)
    return result


@dataclass(frozen=True)
class Check:
    """What is there of one data set: ``raw`` and ``processed`` are True where all is well,
    ``lines`` say it in words, and what to do."""

    name: str
    raw: bool
    processed: bool
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(f"{self.name}: {line}" for line in self.lines)


def check(name: str, source: Frozen | None, out: Path, *, full: bool = True) -> Check:
    """Look at the raw and the processed data of ``name`` without changing anything.

    ``source`` is None for a data set that no source makes: only its processed file counts.
    ``full`` also reads the whole processed file and compares its digest. Problems are told in
    the result, not raised.
    """
    lines = []
    raw = True
    try:
        if source is not None:
            lines.append(f"raw: {_raw(source)}")
    except DataError as error:
        lines.append(f"raw: MISSING: {error}")
        raw = False
    try:
        lines += [f"processed: {line}" for line in _processed(name, Path(out), full)]
        processed = True
    except DataError as error:
        lines.append(f"processed: MISSING: {error}")
        processed = False
    return Check(name, raw, processed, tuple(lines))


def _raw(source: Frozen) -> str:
    """What the source module's ``check_raw(source) -> RawCheck`` finds, if it has one."""
    where = registry.SOURCES[_kind(source)].where.partition(":")[0]
    look: Any = getattr(importlib.import_module(where), "check_raw", None)
    if look is None:
        return "the source names none"
    found: RawCheck = look(source)
    if not found.fine:
        raise DataError("; ".join((*found.missing, *found.problems)))
    if found.place is None:
        return "none needed"
    facts = (f"{value} {what}" for what, value in found.facts.items())
    return "; ".join((", ".join((str(found.place), *facts)), *found.notes))


def _processed(name: str, out: Path, full: bool) -> list[str]:
    clouds = open_clouds(out)
    if full and content_digest(clouds) != clouds.digest:
        raise DataError(
            f"{out} has changed since it was written (its digest differs); {how_to_replace(name)}"
        )
    splits = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
    counts = {name: len(clouds.indices(split)) for name, split in splits.items()}
    also = "".join(
        f", {count} {what}"
        for what, count in (("parts", len(clouds.part_names)), ("episodes", len(clouds.episodes)))
        if count
    )
    return [
        f"{out}, {out.stat().st_size / 1e6:.1f} MB, digest {clouds.digest[:16]}, "
        f"source {clouds.source_hash[:16]}",
        f"{len(clouds)} clouds of {_sizes(clouds)} points: "
        + ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        + f", {clouds.num_classes} classes, {len(set(clouds.family.tolist()))} families{also}",
    ]


def _sizes(clouds: CloudSet) -> str:
    same = clouds.num_points
    return str(same) if same is not None else f"{clouds.least_points} to {clouds.sizes.max()}"


def _kind(source: Frozen) -> str:
    """Name of the source, as the registry has it."""
    return registry.require(registry.SOURCES, "data source", str(getattr(source, "source", "")))
