"""Folders that the system does not let be written, and the setting that moves each of them."""

from __future__ import annotations

import errno
import importlib
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from sa3d.errors import UserError, WriteError
from sa3d.utils.paths import root, work

_REFUSED: Final = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


def give_home() -> None:
    """Name a home folder where the user has none, as in a container started with a bare number.

    MLflow and Prefect ask for one when they are imported, and fail without.
    """
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = str(root() / ".local")


def check_output(out: Path, formats: Iterable[str], needs: Sequence[str], setting: str) -> None:
    """Refuse, before any work is done, a file that could not be written.

    Args:
        out: its suffix says the format.
        formats: suffixes that are known.
        needs: modules that write this format.
        setting: what names the file, for the message.

    Raises:
        UserError: another suffix, or a folder in which nothing can be made.
        ModuleNotFoundError: one of the modules is not installed.
    """
    if out.suffix.lower() not in formats:
        raise UserError(f"{setting} {out}: give a name that ends in {', '.join(formats)}")
    for name in needs:
        importlib.import_module(name)
    check_writable(out.absolute().parent, setting)


def check_writable(folder: Path, setting: str) -> None:
    """Refuse, before any work is done, a folder in which nothing can be made.

    Args:
        folder: need not be there yet.
        setting: what moves it, for the message.

    Raises:
        WriteError: with the folder, the reason and the setting.
    """
    # not `Path.exists`, which fails in a folder that may not be looked into
    there = next(p for p in (folder, *folder.parents) if os.path.exists(p))  # noqa: PTH110
    if not there.is_dir():
        said = f"{there} is no folder"
    elif not os.access(there, os.W_OK | os.X_OK, effective_ids=True):
        said = "no permission to write, or a read-only disk"
    else:
        return
    raise WriteError(f"cannot write in {folder}: {said}; choose another folder with {setting}")


def refusal(error: OSError) -> str | None:
    """One line for a file that the system would not write or open; None for any other error."""
    if error.errno == errno.ENOENT and error.filename is None and "temporary" in str(error):
        return "there is no folder for temporary files; choose one with TMPDIR"
    if error.errno not in _REFUSED:
        return None
    assert error.errno is not None
    said = os.strerror(error.errno)
    settings = {
        work(): "SA3D_WORK",
        Path(os.environ.get("PREFECT_HOME") or root() / ".local" / "prefect"): "PREFECT_HOME",
        Path(os.environ.get("TMPDIR") or tempfile.gettempdir()): "TMPDIR",
    }
    if not isinstance(error.filename, str | bytes):  # of a write the system does not say where
        places = ", ".join(f"{setting} ({folder})" for folder, setting in settings.items())
        return f"cannot write: {said}; free some space, or choose another folder with {places}"
    path = Path(os.fsdecode(error.filename)).absolute()
    inside = [folder for folder in settings if path.is_relative_to(folder)]
    if not inside:
        return f"cannot use {path}: {said}"
    nearest = max(inside, key=lambda folder: len(folder.parts))
    return f"cannot use {path}: {said}; choose another folder with {settings[nearest]}"
