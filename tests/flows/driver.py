"""``python -m flows.experiment`` with the fake child, fake data and without weights to register.

``$FLOW`` names another flow.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from flows import settings
from sa3d.tracking import conclude as concluding
from sa3d.tracking import model_registry

settings.check_data = lambda runs: None  # type: ignore[assignment]  # there are no clouds
settings.CHILD[:] = [sys.executable, str(Path(__file__).with_name("fake_child.py"))]


def register(
    run_dir: Path, experiment: str, variant: str, *, candidate: bool = True
) -> dict[str, str]:
    with (Path(os.environ["FAKE"]) / "registered").open("a") as file:
        file.write(f"{run_dir.name.rpartition('-')[0]} {candidate}\n")
    return {"name": f"sa3d-{experiment}-{variant}", "version": "1"}


model_registry.register = register
concluding.conclude = lambda results: []  # these models are in no store

if __name__ == "__main__":
    importlib.import_module(f"flows.{os.environ.get('FLOW', 'experiment')}").main()
