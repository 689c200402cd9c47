"""The lock of a registered model, and how what a dead process left is passed over."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from socket import gethostname

import pytest

from sa3d.errors import UserError
from sa3d.tracking import mlflow_store
from sa3d.tracking.registry_lock import PREFIX, STALE, locked
from tests.tracking.registry_store import NAME, Store, registry

__all__ = ["registry"]

pytestmark = pytest.mark.slow


def held(registry: Store) -> list[str]:
    return [
        key for key in registry.client.get_registered_model(NAME).tags if key.startswith(PREFIX)
    ]


def test_it_is_held_once_and_given_back(registry: Store) -> None:
    registry.client.create_registered_model(NAME)
    with locked(registry.client, NAME):
        assert len(held(registry)) == 1
        began = time.monotonic()
        refused = pytest.raises(UserError, match="is being changed by another process")
        with refused, locked(registry.client, NAME, patience=1.0):
            raise AssertionError("two hold it")
        assert 1.0 <= time.monotonic() - began < 30.0
        assert len(held(registry)) == 1
    assert held(registry) == []


def test_what_a_dead_process_left_is_passed_over(registry: Store) -> None:
    registry.client.create_registered_model(NAME)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = f"{time.time():.3f} {dead.pid}@{gethostname()}"
    old = f"{time.time() - STALE - 1:.3f} 1@elsewhere"
    for key, value in (("dead", left), ("old", old)):
        registry.client.set_registered_model_tag(NAME, f"{PREFIX}{key}", value)
    with locked(registry.client, NAME, patience=0.0):
        assert len(held(registry)) == 1
    registry.client.set_registered_model_tag(NAME, f"{PREFIX}new", f"{time.time():.3f} 1@elsewhere")
    with pytest.raises(UserError), locked(registry.client, NAME, patience=0.0):
        raise AssertionError("another machine holds it")


COUNT = """
import sys, time
from pathlib import Path
from sa3d.tracking import mlflow_store
from sa3d.tracking.registry_lock import locked
opened, counter = mlflow_store.client(sys.argv[1]), Path(sys.argv[3])
for _ in range(5):
    with locked(opened, sys.argv[2]):
        seen = int(counter.read_text())
        time.sleep(0.05)
        counter.write_text(str(seen + 1))
"""


def test_processes_count_together(registry: Store, tmp_path: Path) -> None:
    registry.client.create_registered_model(NAME)
    counter = tmp_path / "counter"
    counter.write_text("0")
    words = [sys.executable, "-c", COUNT, mlflow_store.tracking_uri(), NAME, str(counter)]
    processes = [subprocess.Popen(words) for _ in range(3)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0, 0]
    assert counter.read_text() == "15"
