"""Features of clouds by a frozen encoder, computed once for all runs that need the same ones.

Another seed, another grid of C or another experiment needs no new ones. A file
``work/features/<key>.npz`` holds those of one model and some clouds; its name is a hash of all that
they depend on: the encoder's weights (also random ones), the backbone's settings, the data, the
rows, the points a cloud, the batch size, device and precision (which decide rounding) and the code.
The folder may be deleted at any time. Once it holds more than 1 GiB, the files that were unused for
the longest time go: 12 000 clouds with 384 features take 18 MiB.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch import nn

from sa3d import registry
from sa3d.data.store import CloudSet
from sa3d.engine.precision import autocast, quickest
from sa3d.errors import TrainingError
from sa3d.models.backbone import Backbone
from sa3d.runs.code import code_digest
from sa3d.runs.config import RunConfig
from sa3d.runs.context import RunContext
from sa3d.tasks.evaluation import Ints, fixed_batches, shown
from sa3d.tasks.svm.task import SvmConfig
from sa3d.utils import paths
from sa3d.utils.files import write_whole

Features = NDArray[np.float32]
FOLDER: Final = "features"
MOST_BYTES: Final = 1 << 30
_UNREADABLE = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile)


def features(
    backbone: Backbone,
    clouds: CloudSet,
    rows: Ints,
    config: RunConfig,
    context: RunContext,
    what: str,
) -> Features:
    """(S, D) features of ``rows``, read from their file or computed and put there.

    Of several runs that want the same ones at the same time one computes, the others wait.

    Args:
        backbone: in ``eval()``, on the run's device.
        what: they are, for messages.

    Raises:
        TrainingError: features that are not finite.
    """
    path = paths.work() / FOLDER / f"{_key(backbone, clouds, rows, config, context)}.npz"
    with _alone(path, what):
        found = _read(path, len(rows))
        if found is None:
            found = _computed(backbone, clouds, rows, config, context, what)
            _write(path, found)
    return found


@contextlib.contextmanager
def _alone(path: Path, what: str) -> Iterator[None]:
    """One process at a time for a file; the others say that they wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # soft locks, which filelock would use where there is no flock, stay behind after a kill
    lock = FileLock(path.with_suffix(".lock"), fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        text = f"another process is computing the same {what}; waiting for it"
        print(text, file=sys.stderr, flush=True)  # noqa: T201
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _computed(
    backbone: Backbone,
    clouds: CloudSet,
    rows: Ints,
    config: RunConfig,
    context: RunContext,
    what: str,
) -> Features:
    assert isinstance(config.settings, SvmConfig)
    batches = fixed_batches(clouds, rows, config, config.settings.batch_size)
    label = f"{config.spec.name}: {what}"
    with autocast(context.device, quickest(context.device, config.settings.precision)):
        parts = [
            backbone.features(points).cpu().numpy()
            for points, _ in shown(batches, context.device, label, context.quiet)
        ]
    found = np.concatenate(parts)
    if not np.isfinite(found).all():
        raise TrainingError(
            f"{what} are not finite: the model in {context.start or 'random weights'} is of no use"
        )
    return found


def _key(
    backbone: Backbone, clouds: CloudSet, rows: Ints, config: RunConfig, context: RunContext
) -> str:
    assert isinstance(config.settings, SvmConfig)
    model = config.deciding()["model"]
    places = [f"{__name__}:features", registry.place(registry.BACKBONES[model["backbone"]])]
    tree = {
        "weights": _digest(backbone.encoder),
        "model": model,
        "data": clouds.digest,
        "rows": hashlib.sha256(rows.tobytes()).hexdigest(),
        "points": config.data.points,
        "batch_size": config.settings.batch_size,
        "device": context.device.type,
        "precision": quickest(context.device, config.settings.precision),
        "code": code_digest(*places),
    }
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:32]


def _digest(module: nn.Module) -> str:
    """sha256 of all weights."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        array = value.detach().cpu().numpy()
        digest.update(f"{name} {array.dtype} {array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _read(path: Path, count: int) -> Features | None:
    """What the file holds; None if there is none, or it is damaged (which is said)."""
    if not path.is_file():
        return None
    try:
        # the archive has a checksum, so a file that can be read is as it was written
        with np.load(path, allow_pickle=False) as stored:
            found: Features = stored["features"]
        if found.ndim != 2 or len(found) != count or found.dtype != np.float32:
            raise ValueError(f"{found.dtype} of shape {found.shape} for {count} clouds")
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())
        text = f"{paths.shown(path)} is damaged ({reason}); computing the features again"
        print(text, file=sys.stderr, flush=True)  # noqa: T201
        return None
    path.touch()  # used: see _sweep
    return found


def _write(path: Path, found: Features) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, features=found)
    write_whole(path, buffer.getbuffer())
    _sweep(path)


def _sweep(newest: Path) -> None:
    """Remove the files that were unused for the longest time, down to :data:`MOST_BYTES`.

    One that another run is reading stays readable for it; another run may sweep at the same time.
    """
    files = []
    for path in newest.parent.glob("*.npz"):
        with contextlib.suppress(FileNotFoundError):
            files.append((path.stat().st_mtime, path.stat().st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= MOST_BYTES:
            return
        if path != newest:
            path.unlink(missing_ok=True)
            path.with_suffix(".lock").unlink(missing_ok=True)
            total -= size
