"""Whether a processed data set is there, and how it is obtained, for messages.

A data set whose raw data is absent has an *absence* in place of its processed file: DVC needs a
file for every output, and warns of empty ones. ``<name>.h5`` then holds the word ``absent``, and
``<name>.json`` is ``{"absent": reason}``.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Final

from sa3d.config.yaml_file import read_yaml
from sa3d.errors import AbsentDataError, DataError, UnreadDataError
from sa3d.registry import nearest
from sa3d.utils import paths
from sa3d.utils.files import unread

ABSENT: Final = "absent"
"""The key of the reason in ``<name>.json``."""
ABSENT_FILE: Final = b"absent\n"
"""What ``<name>.h5`` then holds."""


def absence(clouds: Path) -> str | None:
    """Why there is nothing behind the processed file ``clouds``; None: it is no absence."""
    try:
        if clouds.stat().st_size != len(ABSENT_FILE) or clouds.read_bytes() != ABSENT_FILE:
            return None
        said = json.loads(clouds.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no such file, or none that says why
        return None
    reason = said.get(ABSENT) if isinstance(said, dict) else None
    return reason if isinstance(reason, str) else None


def require_processed(clouds: Path) -> None:
    """That there is a processed file ``clouds``, whatever its content.

    Raises:
        DataError: there is none; says how to make it. AbsentDataError: an absence is in its place.
        UnreadDataError: its folder is closed to this user.
    """
    try:
        there = clouds.is_file()
    except OSError as error:
        raise UnreadDataError(f"{clouds} {unread(error)}") from error
    if not there:
        raise DataError(f"no processed data set {clouds}; {how_to_make(clouds.stem)}")
    reason = absence(clouds)
    if reason is not None:
        raise AbsentDataError(
            f"data set {clouds.stem} is absent: {reason}; "
            f"`sa3d data check {shlex.quote(clouds.stem)}` says how to obtain it"
        )


def how_to_make(name: str) -> str:
    """What to do where the processed file of data set ``name`` is missing.

    Raises:
        ConfigError: ``params.yaml`` cannot be read, so that nobody knows.
    """
    return _advice(name, "make it with", "put a file of the processed layout there")


def how_to_replace(name: str) -> str:
    """What to do where the processed file of data set ``name`` is of no use.

    Raises:
        ConfigError: as :func:`how_to_make`.
    """
    return _advice(
        name, "delete it and make it again with", "replace it by a whole file of the layout"
    )


def _advice(name: str, make: str, put: str) -> str:
    params = _with_sources()
    sources = (read_yaml(params).get("datasets") or {}) if params.is_file() else {}
    if name not in sources:
        # the name may be mistyped
        others = f"{nearest(name, sources)} (but of {', '.join(sources)})" if sources else ""
        return (
            f"{paths.shown(params)} names no source that makes it{others}: {put}; see "
            "data/README.md"
        )
    command = f"sa3d data prepare {shlex.quote(name)}"
    if params != paths.params_file():  # of which alone DVC knows
        return f"{make} `{command} --params {shlex.quote(str(params))}`"
    return f"{make} `dvc repro {shlex.quote(f'prepare@{name}')}` (or `{command}`)"


def _with_sources() -> Path:
    """The file of settings that the command was given, if it has a section `datasets`: that of an
    experiment alone, which a flow writes for its runs, has none. Else the default."""
    given = paths.given_params()
    if given is not None and given.is_file() and read_yaml(given).get("datasets"):
        return given
    return paths.params_file()
