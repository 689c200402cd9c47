"""Telling a process from another one that got its number later."""

from __future__ import annotations

from pathlib import Path

import psutil


def identity(pid: int) -> str | None:
    """A text that is the same as long as the process lives, and of no other process; None: it is
    gone.

    On Linux the kernel's count of clock ticks from its start to the process's: unlike the time of
    day, which psutil computes from it, it stays when the clock is set.
    """
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").is_file():
        try:
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in ("Z", "X") else f"{pid}@{_boot()}+{fields[19]}"
    try:
        return f"{pid}@{psutil.Process(pid).create_time():.2f}"
    except psutil.NoSuchProcess:
        return None


def lives(identified: str) -> bool:
    """Whether the process of an :func:`identity` is still there."""
    pid = identified.partition("@")[0]
    return pid.isdigit() and identity(int(pid)) == identified


def _boot() -> str:
    """The current start of the machine, shortened."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text(encoding="ascii")[:8] if path.is_file() else ""
