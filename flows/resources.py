"""What a child may compute on: a whole GPU, or a share of the processor's cores.

A GPU is claimed by a file lock, so that two flows on one machine never share one; the kernel
frees the locks of a killed flow. Cores are shared out within one flow.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from sa3d.errors import UserError

_CHILD_BYTES = 2 << 30  # memory a CPU child may want: torch alone takes a third of it


@dataclass(frozen=True)
class Allocation:
    """A GPU or some CPU threads, allocated until :attr:`release` is called."""

    name: str
    threads: int
    env: dict[str, str]
    release: Callable[[], None] = field(repr=False)


class Resources:
    """The GPUs, or else the CPU cores, that one flow may use.

    Args:
        device: ``auto`` (GPUs if there are any), ``cuda`` (GPUs or an error), ``cpu``.
        width: most children that could run side by side; cores are not cut finer than that.

    Raises:
        UserError: ``cuda`` without a GPU.
    """

    def __init__(self, device: str, width: int) -> None:
        self.gpus = [] if device == "cpu" else visible_gpus()
        if device == "cuda" and not self.gpus:
            raise UserError("--device cuda, but nvidia-smi lists no GPU; use --device cpu")
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        self._cores = cores or 1
        room = max(1, _available_memory() // _CHILD_BYTES)
        self.count = len(self.gpus) or max(1, min(width, self._cores, room))
        self._free = self.count

    def allocate(self, whole: bool) -> Allocation | None:
        """An allocation, or None when nothing is free now.

        Args:
            whole: the work gains from every core (pre-training). Of GPUs it gets one either
                way.
        """
        if self.gpus:
            return self._allocate_gpu()
        wanted = self.count if whole else 1
        if self._free < wanted:
            return None
        self._free -= wanted
        threads = self._cores if whole else max(1, self._cores // self.count)

        def release() -> None:
            self._free += wanted

        env = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": str(threads)}
        plural = "s" if threads > 1 else ""
        return Allocation(f"{threads} thread{plural}", threads, env, release)

    def _allocate_gpu(self) -> Allocation | None:
        threads = max(1, self._cores // self.count)
        for gpu in self.gpus:
            # not thread-local: what one thread allocates, another may release
            lock = FileLock(_lock_file(gpu), mode=0o600, thread_local=False, fallback_to_soft=False)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            env = {"CUDA_VISIBLE_DEVICES": gpu, "OMP_NUM_THREADS": str(threads)}
            return Allocation(f"GPU {gpu}", threads, env, lock.release)
        return None


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
    except (OSError, subprocess.SubprocessError):
        return []  # no driver here
    return listed.split()


def _lock_file(gpu: str) -> Path:
    folder = Path(tempfile.gettempdir()) / f"sa3d-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{gpu.replace('/', '-')}.lock"


def _available_memory() -> int:
    import psutil

    return int(psutil.virtual_memory().available)
