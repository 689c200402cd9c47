"""What a child may compute on: a whole GPU, or some of the processor's cores.

Both are claimed by file locks, one a GPU and one a core, so that all flows of a user on one
machine share them out. The kernel frees the locks of a killed flow.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from sa3d.errors import UserError

SIDE_BY_SIDE: Final = "SA3D_JOBS_SIDE_BY_SIDE"
"""Set for a worker: how many jobs this machine makes at once, and shares its cores between."""
_CHILD_BYTES = 2 << 30  # memory a CPU child may want: torch alone takes a third of it


@dataclass(frozen=True)
class Allocation:
    """A GPU or some CPU threads, allocated until :attr:`release` is called.

    Attributes:
        name: for people.
        threads: CPU threads that the child shall use.
        device: for its option ``--device``.
        env: variables of its environment.
        release: gives it back.
    """

    name: str
    threads: int
    device: str
    env: dict[str, str]
    release: Callable[[], None] = field(repr=False)


class Resources:
    """The GPUs, or else the CPU cores, that one flow may use.

    Args:
        device: ``auto`` (GPUs if there are any), ``cuda`` (GPUs or an error), ``cpu``.
        width: most children that could run side by side; cores are not cut finer than that.
        gpu_workers: processes of this machine that have a GPU each, and share its cores.

    Raises:
        UserError: ``cuda`` without a GPU.
    """

    def __init__(self, device: str, width: int, gpu_workers: int = 1) -> None:
        self.gpus = [] if device == "cpu" else visible_gpus()
        if device == "cuda" and not self.gpus:
            raise UserError("--device cuda, but nvidia-smi lists no GPU; use --device cpu")
        usable = _usable_cores()
        room = max(1, _available_memory() // _CHILD_BYTES)
        self.count = len(self.gpus) or max(1, min(width, len(usable), room))
        self._total = len(usable)
        self._share = max(1, self._total // max(self.count, gpu_workers if self.gpus else 1))
        self._cores = _Cores(usable)

    def allocate(self, whole: bool) -> Allocation | None:
        """An allocation, or None when there is none now.

        Cores that were free are kept from others until there are enough. So ask again, for the
        same or for work of more importance, or call :meth:`abandon`.

        Args:
            whole: the work gains from every core (pre-training). Of GPUs it gets one either
                way.
        """
        if self.gpus:
            return self._allocate_gpu()
        threads = self._total if whole else self._share
        locks = self._cores.claim(threads)
        if locks is None:
            return None
        name = f"{threads} thread{'s' if threads > 1 else ''}"
        env = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": str(threads)}
        return Allocation(name, threads, "cpu", env, lambda: _release(locks))

    def abandon(self) -> None:
        """Give up the cores that were kept for an allocation."""
        self._cores.abandon()

    def _allocate_gpu(self) -> Allocation | None:
        for gpu in self.gpus:
            lock = _lock("gpus", gpu)
            if _acquired(lock):
                env = {"CUDA_VISIBLE_DEVICES": gpu, "OMP_NUM_THREADS": str(self._share)}
                return Allocation(f"GPU {gpu}", self._share, "cuda", env, lock.release)
        return None


class _Cores:
    """The cores of this machine, each with a lock file.

    Who wants cores takes the turnstile lock first and holds it until it has as many as it wants.
    Only one process collects at a time, so no two can wait for what the other has; and while one
    waits for several cores, none that becomes free goes to somebody who wants fewer.
    """

    def __init__(self, cores: Sequence[int]) -> None:
        self._names = [str(core) for core in cores]
        self._turnstile = _lock("cores", "turnstile")
        self._collected: dict[str, FileLock] = {}

    def claim(self, count: int) -> list[FileLock] | None:
        """Held locks of that many cores; None: there are not enough now."""
        if not self._turnstile.is_locked and not _acquired(self._turnstile):
            return None
        for name in self._names:
            if len(self._collected) >= count:
                break
            lock = _lock("cores", name)
            if name not in self._collected and _acquired(lock):
                self._collected[name] = lock
        if len(self._collected) < count:
            return None
        found = [self._collected.pop(name) for name in list(self._collected)[:count]]
        self.abandon()
        return found

    def abandon(self) -> None:
        """Free what was collected, and let others collect."""
        _release(list(self._collected.values()))
        self._collected.clear()
        self._turnstile.release()


def visible_gpus() -> list[str]:
    """Indices or ids of the GPUs this process may use, without importing torch."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [gpu.strip() for gpu in chosen.split(",") if gpu.strip() not in ("", "-1")]
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            check=True,
            capture_output=True,
            text=True,
            timeout=30,
        ).stdout
    except FileNotFoundError:
        return []  # no driver here
    except (OSError, subprocess.SubprocessError) as error:
        # a machine with a driver and a broken GPU must not train for days on its processor unseen
        print(f"no GPU is used: nvidia-smi failed: {error}", file=sys.stderr)  # noqa: T201
        return []
    return listed.split()


def _lock(kind: str, name: str) -> FileLock:
    """The lock of one thing in a folder of this user."""
    folder = Path(tempfile.gettempdir()) / f"sa3d-{kind}-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{name.replace('/', '-')}.lock"
    # not thread-local: what one thread allocates, another may release
    return FileLock(path, mode=0o600, thread_local=False, fallback_to_soft=False)


def _acquired(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


def _release(locks: Sequence[FileLock]) -> None:
    for lock in locks:
        lock.release()


def _usable_cores() -> list[int]:
    """Numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _available_memory() -> int:
    import psutil

    return int(psutil.virtual_memory().available)
