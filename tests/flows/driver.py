"""``python -m flows.experiment`` with the fake child and without weights to register."""

from __future__ import annotations

import sys
from pathlib import Path

from flows import experiment, plan
from sa3d.tracking import model_registry

plan.CHILD[:] = [sys.executable, str(Path(__file__).with_name("fake_child.py"))]


def register(run_dir: Path, experiment: str, arm: str) -> dict[str, str]:
    return {"name": f"sa3d-{experiment}-{arm}", "version": "1"}


model_registry.register = register

if __name__ == "__main__":
    experiment.main()
