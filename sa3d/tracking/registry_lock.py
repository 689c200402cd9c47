"""One change at a time to a registered model, from whatever machine.

MLflow sets an alias without asking what it was before, so two who compare with the same champion
could each replace it. The lock lies in the registry itself, as tags of the registered model:
everybody writes a tag of their own first and reads the others' afterwards. Of two at once at
least one sees the other; whoever sees another takes its tag away and tries again a little later.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
import uuid
from collections.abc import Iterator
from socket import gethostname
from typing import TYPE_CHECKING, Final

from sa3d.errors import UserError
from sa3d.utils.processes import identity

if TYPE_CHECKING:
    from mlflow import MlflowClient

PREFIX: Final = "changing."
STALE: Final = 60.0  # seconds; a tag of another machine that is older was left by a dead process
_PATIENCE = 90.0  # seconds to wait for others: longer than what is stale, so that a retry succeeds


@contextlib.contextmanager
def locked(opened: MlflowClient, name: str, patience: float = _PATIENCE) -> Iterator[None]:
    """Hold the lock of a registered model in the block, which must end within ``STALE`` seconds.

    Raises:
        UserError: others held it all the time.
    """
    own = f"{PREFIX}{uuid.uuid4().hex[:12]}"
    deadline = time.monotonic() + patience
    try:
        while not _acquired(opened, name, own):
            if time.monotonic() > deadline:
                raise UserError(
                    f"{name} is being changed by another process for {patience:.0f} s; try again"
                )
            time.sleep(random.uniform(0.05, 0.5))
        yield
    finally:
        opened.delete_registered_model_tag(name, own)


def _acquired(opened: MlflowClient, name: str, own: str) -> bool:
    opened.set_registered_model_tag(name, own, f"{time.time():.3f} {os.getpid()}@{gethostname()}")
    others = False
    for key, holder in dict(opened.get_registered_model(name).tags).items():
        if not key.startswith(PREFIX) or key == own:
            continue
        if _abandoned(holder):
            opened.delete_registered_model_tag(name, key)
        else:
            others = True
    if others:
        opened.delete_registered_model_tag(name, own)
    return not others


def _abandoned(holder: str) -> bool:
    """Whether a tag was left by a process that died."""
    since, _, process = holder.partition(" ")
    number, _, host = process.partition("@")
    if host == gethostname() and identity(int(number)) is None:
        return True
    return time.time() - float(since) > STALE
