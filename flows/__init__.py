"""Experiments as Prefect flows: they plan, supervise ``sa3d`` subprocesses and collect.

Importing this package sets the environment that Prefect and MLflow read once, at their own
first import; it imports neither of them, nor torch.
"""

from __future__ import annotations

import os

from sa3d.utils.credentials import hide_prefect_credentials
from sa3d.utils.loopback import ask_loopback_directly
from sa3d.utils.paths import root
from sa3d.utils.places import give_home
from sa3d.utils.telemetry import disable_telemetry

disable_telemetry()
hide_prefect_credentials()
ask_loopback_directly()
give_home()
# Runs of a project are found again with the project, not in the user's home.
os.environ.setdefault("PREFECT_HOME", str(root() / ".local" / "prefect"))
