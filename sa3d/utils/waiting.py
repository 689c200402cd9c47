"""How long threads of OpenMP wait for work with their core kept busy.

torch computes with OpenMP's threads. GNU's OpenMP lets a thread that has nothing to do try again
300 000 times before it sleeps, some 10 ms. Where other processes want the cores, that time is taken
from them, and from the thread that all others wait for. 10 000 times are enough to go from one
operation to the next without a sleep. docs/performance_downstream.md has the measurements.
"""

from __future__ import annotations

import os
from typing import Final

TRIES: Final = "10000"
_DECIDED = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def wait_briefly() -> None:
    """Set it for this process and its children, unless the user has; before torch is imported."""
    if not any(name in os.environ for name in _DECIDED):
        os.environ["GOMP_SPINCOUNT"] = TRIES
