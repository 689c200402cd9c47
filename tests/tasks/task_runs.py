"""Runs of the tiny experiment's tasks, without the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sa3d import registry
from sa3d.config.experiment import ExperimentConfig
from sa3d.data.store import CloudSet, open_clouds
from sa3d.engine.checkpoint import Checkpoint
from sa3d.engine.loop import Trainer
from sa3d.runs.config import RunConfig, choose
from sa3d.runs.context import RunContext
from sa3d.runs.result import Result
from sa3d.tracking.journal import Journal

FINGERPRINT = "0123456789abcdef"


def tiny_clouds(root: Path) -> CloudSet:
    return open_clouds(root / "data" / "processed" / "tiny.h5")


def run_of(
    config: ExperimentConfig, task: str, variant: str | None = None, **changes: object
) -> RunConfig:
    """A run of the experiment with some of its settings changed."""
    run = choose(config, task, variant=variant)
    values = run.settings.model_dump() | changes
    return replace(run, settings=type(run.settings).model_validate(values))


def with_model(run: RunConfig, **changes: object) -> RunConfig:
    """The run on another backbone of the same kind."""
    model = type(run.model).model_validate(run.model.model_dump() | changes)
    return replace(run, model=model)


def context(root: Path, folder: Path, **changes: Any) -> RunContext:
    values: dict[str, Any] = {
        "folder": folder,
        "fingerprint": FINGERPRINT,
        "device": torch.device("cpu"),
        "tracker": Journal(folder),
        "clouds": root / "data" / "processed" / "tiny.h5",
        "quiet": True,
    }
    return RunContext(**values | changes)


def do(run: RunConfig, where: RunContext) -> Result:
    """Make the run; what it returns is what it left on the disk."""
    result: Result = registry.load_at(run.task.run)(run, where)
    stored = json.loads((where.folder / "result.json").read_text())
    assert stored["metrics"] == result.metrics
    assert stored["spec"] == run.spec.as_json()
    for path in result.artifacts.values():
        assert (where.folder / path).exists(), path
    return result


def interrupted(monkeypatch: pytest.MonkeyPatch, step: int, fit: Callable[[], Any]) -> None:
    """Run ``fit`` and break it off before optimiser step ``step``."""
    real = Trainer._step

    def stop(self: Trainer, epoch: int, group: list[Any]) -> None:
        if self._position.step == step:
            raise KeyboardInterrupt
        real(self, epoch, group)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", stop)
        with pytest.raises(KeyboardInterrupt):
            fit()


def last_state(folder: Path) -> dict[str, Any]:
    state = Checkpoint(folder / "last.pt", FINGERPRINT).load(torch.device("cpu"))
    assert state is not None
    return state
