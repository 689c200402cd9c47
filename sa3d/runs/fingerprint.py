"""Which run is which: one short hash of all that decides a run's result.

The run's identity and settings, data, code, and the models that it starts from. Two runs with
the same fingerprint are the same run: its checkpoint may be resumed and its result reused. No
torch in here: the flow and the command line ask before anything heavy is imported.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sa3d.checkpoints.card import model_digest
from sa3d.config import endless
from sa3d.config.data import DataConfig
from sa3d.config.obtain import how_to_replace, require_processed
from sa3d.errors import DataError, UnreadDataError, UserError
from sa3d.runs.code import code_digest, components
from sa3d.runs.config import RunConfig
from sa3d.utils import paths
from sa3d.utils.files import unread
from sa3d.utils.layout import FORMAT, VERSION, attribute_text

RESULT_NEUTRAL: Final = True
LENGTH = 16
CONFIG: Final = "config.json"
PLANNED: Final = "SA3D_PLANNED_RUN"  # the fingerprint that a flow expects of its child's run


@dataclass(frozen=True)
class Located:
    """A run with its fingerprint and folder.

    Attributes:
        run: what it is.
        fingerprint: of the run.
        folder: where it lies, or will lie.
        start: exported model that it starts from; None: random weights.
        teacher: exported model that it distils.
    """

    run: RunConfig
    fingerprint: str
    folder: Path
    start: Path | None = None
    teacher: Path | None = None

    @property
    def clouds(self) -> Path:
        """The processed data that it reads; of an endless data set, which has no such file, where
        one would lie."""
        return paths.processed(self.run.data.name)


def locate(run: RunConfig, *, start: Path | None = None, teacher: Path | None = None) -> Located:
    """The run's fingerprint and its folder, ``work/<name>-<fingerprint>``.

    Args:
        run: what it is.
        start: run folder, or exported model, that it starts from.
        teacher: likewise, that it distils.

    Raises:
        DataError: no readable data. CheckpointError: no exported model there.
    """
    found = fingerprint(run, start=start, teacher=teacher)
    return Located(run, found, paths.work() / f"{run.spec.name}-{found}", start, teacher)


def fingerprint(run: RunConfig, *, start: Path | None = None, teacher: Path | None = None) -> str:
    """Fingerprint of a run, 16 hex digits; see :func:`locate`."""
    spec, settings = run.spec, run.deciding()
    whole: dict[str, Any] = {
        "spec": [spec.task, spec.variant, spec.data, spec.label, spec.seed, spec.fold],
        "settings": settings,
        "data": digest_of(run.data),
        "code": code_digest(*components(run.task, settings)),
        # a batch is batch_size clouds of each process
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "start": start and model_digest(start),
        "teacher": teacher and model_digest(teacher),
    }
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def digest_of(data: DataConfig) -> str:
    """What tells the clouds of a data set from all others: the digest in its processed file, or
    that of the settings and generator of an endless one.

    Raises:
        DataError: see :func:`data_digest`.
    """
    if data.endless is not None:
        return endless.digest_of(data.endless)
    return data_digest(paths.processed(data.name))


def data_digest(clouds: Path) -> str:
    """Content digest stored in a processed file.

    Raises:
        DataError: missing, not such a file, or of another layout. AbsentDataError: its raw data is
            not there at all.
    """
    import h5py

    require_processed(clouds)
    try:
        with h5py.File(clouds, "r") as file:
            layout = (
                attribute_text(file.attrs.get("format")),
                int(file.attrs.get("version", 0)),
            )
            digest = attribute_text(file.attrs["digest"])
    except (KeyError, ValueError, TypeError, OSError, RuntimeError) as error:
        if (why := unread(error)) is not None:
            raise UnreadDataError(f"{clouds} {why}") from error
        raise DataError(
            f"{clouds} is damaged or of another kind; {how_to_replace(clouds.stem)}"
        ) from error
    if layout != (FORMAT, VERSION):
        raise DataError(
            f"{clouds} has layout {layout[0]} {layout[1]}, this code reads {FORMAT} {VERSION}; "
            f"{how_to_replace(clouds.stem)}"
        )
    return digest


def require_planned(fingerprint: str) -> None:
    """Refuse a run that is not the one which the flow that started this process has planned.

    A flow and its children calculate fingerprints from the files that they find. Without this a
    child would train under its own fingerprint and be refused by the flow afterwards.

    Raises:
        UserError: code or data are not those that the flow found.
    """
    planned = os.environ.get(PLANNED, fingerprint)
    if planned != fingerprint:
        raise UserError(
            f"the flow planned run {planned}, but its command found run {fingerprint}: the data or "
            "the code of sa3d or point_ops was changed after the flow began, or differs on this "
            "machine; start the flow again: it keeps the results that still hold"
        )


def finished(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """The result of a run that is complete and is the one asked for, else None.

    ``result.json`` is written last, by rename: where it stands, the run is whole.

    Raises:
        UserError: the folder holds another run, or a file of it was cut short by other hands.
    """
    result = _read(folder / paths.RESULT, fingerprint)
    # a run that goes on writes this one anew, and its checkpoint says for itself whose it is
    _read(folder / CONFIG, fingerprint)
    return result


def _read(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """A file that names its run; None: there is none."""
    if not path.is_file():
        return None
    try:
        tree: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = tree["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        if (why := unread(error)) is not None:
            raise UserError(f"{path} {why}") from None
        raise UserError(
            f"cannot read {path.name} of this run: it is cut short; delete it ({path}) and run "
            "the same command again: it goes on from the last checkpoint"
        ) from None
    if found != fingerprint:
        raise UserError(
            f"{path.parent} holds run {found}, this is run {fingerprint} (other settings, data or "
            "code); choose another --out"
        )
    return tree
