"""Where things lie: the project's root, processed data, work and store folders.

Everything is absolute and hangs off one root, so that a run started by DVC in a temporary
copy of the repository still finds (and does not lose) the local stores.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

RESULT: Final = "result.json"
"""What a finished run leaves in its folder, last."""
LOCK: Final = ".lock"
"""What the process that makes a run holds in its folder."""
_given: Path | None = None


def root() -> Path:
    """The project's root: ``$SA3D_ROOT``, ``$DVC_ROOT``, or the nearest folder up from here
    that holds ``params.yaml``; the current folder when there is none."""
    for variable in ("SA3D_ROOT", "DVC_ROOT"):
        if os.environ.get(variable):
            return Path(os.environ[variable]).resolve()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "params.yaml").is_file():
            return folder
    return here


def params_file() -> Path:
    """The default ``params.yaml``."""
    return Path("params.yaml") if Path("params.yaml").is_file() else root() / "params.yaml"


def give_params(path: Path | None) -> Path | None:
    """Note the settings file that this process was told to read (``--params``), for messages.

    Returns:
        ``path``, as a command-line option's callback has to.
    """
    global _given
    _given = path
    return path


def given_params() -> Path | None:
    """What :func:`give_params` was told last; None: nothing."""
    return _given


def processed(name: str) -> Path:
    """The processed HDF5 file of data set ``name``, relative to the working copy."""
    here = params_file().resolve().parent
    return here / "data" / "processed" / f"{name}.h5"


def work() -> Path:
    """Run folders and checkpoints: ``$SA3D_WORK`` or ``<root>/work``."""
    return Path(os.environ.get("SA3D_WORK") or root() / "work").resolve()


def shown(path: Path) -> str:
    """A path for messages and reports: from the project's root where it lies below it."""
    base = root()
    return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)
