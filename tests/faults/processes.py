"""Processes that a test started, told apart from all others by a mark in their environment.

Children inherit the environment, so the mark finds them also after their parent has died and
init has adopted them, which is what a test for orphans needs.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

import psutil

_VARIABLE = "SA3D_FAULT_TEST"


def new_mark() -> dict[str, str]:
    """A variable for the environment of all that one test starts."""
    return {_VARIABLE: uuid.uuid4().hex}


def marked(mark: dict[str, str], *words: str) -> list[psutil.Process]:
    """The living processes with this mark whose command line holds all of ``words``."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.environ().get(_VARIABLE) != mark[_VARIABLE]:
                continue
            line = process.cmdline()
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            continue
        if all(word in line for word in words):
            found.append(process)
    return found


def wait_for(true: Callable[[], object], seconds: float, what: str) -> float:
    """Wait until ``true()``; returns how long that took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() < began + seconds, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(0.05)
    return time.monotonic() - began


def wait_until_gone(mark: dict[str, str], seconds: float) -> float:
    """Wait until no process with this mark lives; returns how long that took."""
    began = time.monotonic()
    while left := marked(mark):
        lines = [line for line in map(_line, left) if line]
        assert time.monotonic() < began + seconds, f"still there after {seconds:.0f} s: {lines}"
        time.sleep(0.1)
    return time.monotonic() - began


def _line(process: psutil.Process) -> str:
    """Its command line; of one that has ended meanwhile, nothing."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def end_all(mark: dict[str, str]) -> None:
    """Kill whatever a test has left; for its clean-up, also after it failed."""
    for process in marked(mark):
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
