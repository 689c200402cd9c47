"""From a named source to its processed file.

The summary beside the file (``<name>.json``) also records the settings and the number and size of
the raw files that it was made from, so that one can tell later that these have changed.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any, Final

from sa3d import registry
from sa3d.config.base import Frozen
from sa3d.config.obtain import ABSENT, ABSENT_FILE, absence
from sa3d.data.presence import inventory, is_absent, kind_of, raw_check, raw_folder
from sa3d.errors import ConfigError, DataError
from sa3d.utils.files import write_whole
from sa3d.utils.json_file import write_json
from sa3d.utils.paths import shown

MADE_FROM: Final = "made_from"
"""The key in ``<name>.json`` of what :func:`origin` gives."""


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
    make = registry.load(registry.SOURCES, "data source", kind_of(source))
    options: dict[str, bool] = {"quiet": quiet}
    if allow_missing:
        if "allow_missing" not in inspect.signature(make).parameters:
            raise ConfigError(
                f"--allow-missing: data set {name} has no list of files, so none can be missing; "
                "leave the option out"
            )
        options["allow_missing"] = True
    made_from = origin(source)
    result: Path = make(source, Path(out), **options)
    record_origin(result, made_from)
    return result


def prepare_or_absent(
    name: str, source: Frozen, out: Path, *, quiet: bool = False, allow_missing: bool = False
) -> tuple[Path, str]:
    """As :func:`prepare`; where nothing of the raw data is there, an absence is written instead.

    A processed file that is there already stays, if it was made with these settings or does not
    say with which: it came from another machine, or the raw data was removed after it was made.

    Returns:
        The file, and a line on the missing raw data; empty where the file was made.

    Raises:
        DataError: as :func:`prepare`, and where the file that is there was made with other
            settings.
    """
    out = Path(out)
    try:
        return prepare(name, source, out, quiet=quiet, allow_missing=allow_missing), ""
    except DataError:
        found = raw_check(source, read=False)
        if not is_absent(found):
            raise
    reason = f"no raw data in {shown(found.place) if found.place else 'its folder'}"
    if out.is_file() and out.stat().st_size > len(ABSENT_FILE):
        settings = summary_of(out).get(MADE_FROM, {}).get("settings")
        if settings not in (None, origin(source)["settings"]):
            raise DataError(
                f"{reason}, and {shown(out)} was made with other settings than those of {name} "
                "now; put the raw data back, or take the settings back"
            )
        return out, f"{reason}; {shown(out)}, which is there, is used as it is"
    write_whole(out, ABSENT_FILE)
    write_json(out.with_suffix(".json"), {ABSENT: reason})
    return out, f"{reason}; {name} is absent, and what needs it is skipped"


def record_origin(out: Path, made_from: dict[str, Any]) -> None:
    """Put what :func:`origin` gave, before the raw files were read, into the summary of ``out``."""
    write_json(out.with_suffix(".json"), summary_of(out) | {MADE_FROM: made_from})


def origin(source: Frozen) -> dict[str, Any]:
    """What a processed file is made from: settings without the place, and the raw files' number
    and size. Plain values, as JSON gives them back."""
    raw = inventory(raw_folder(source))
    settings = source.model_dump(mode="json", exclude={"root"})
    return {"settings": settings, "raw_files": raw.files, "raw_bytes": raw.bytes}


def stale(source: Frozen, out: Path) -> str:
    """Why the processed file ``out`` no longer fits its source; empty: nothing says so.

    Told from the settings and from the number and size of the raw files, which are there: what
    only DVC's hashes can tell, such as a change of the code, DVC tells.
    """
    now, then = origin(source), summary_of(out).get(MADE_FROM)
    if absence(out) is not None:
        # not by the number of files: those of another set, or lists alone, may lie in the folder
        come = bool(now["raw_files"]) and not is_absent(raw_check(source, read=False))
        return "raw data has come since" if come else ""
    if not isinstance(then, dict):
        return ""
    if then.get("settings") != now["settings"]:
        return "its settings have changed since"
    if now["raw_files"] and then != now:
        return (
            f"it was made from {then.get('raw_files')} raw files of {then.get('raw_bytes')} bytes, "
            f"now there are {now['raw_files']} of {now['raw_bytes']}"
        )
    return ""


def summary_of(out: Path) -> dict[str, Any]:
    """The summary beside a processed file; empty where there is none that can be read."""
    try:
        tree = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return tree if isinstance(tree, dict) else {}
