"""Where and how a run computes, and what it tells of itself at its start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from sa3d.engine.distributed import ALONE, Processes
from sa3d.runs.config import RunConfig
from sa3d.runs.fingerprint import CONFIG
from sa3d.tracking.journal import Tracker
from sa3d.utils.json_file import write_json

RESULT_NEUTRAL: Final = True


@dataclass(frozen=True)
class RunContext:
    """Where and how a run computes.

    Attributes:
        folder: everything the run leaves behind.
        fingerprint: of the run (:mod:`sa3d.runs.fingerprint`).
        device: where models lie.
        tracker: journal and MLflow.
        clouds: processed data; see :attr:`sa3d.runs.fingerprint.Located.clouds`.
        start: exported model to start from; None: random weights.
        teacher: exported model that is distilled.
        quiet: no progress line.
        processes: this process among those of the run.
        workers: processes that make the clouds of an endless data set; None: as the device needs.
    """

    folder: Path
    fingerprint: str
    device: torch.device
    tracker: Tracker
    clouds: Path
    start: Path | None = None
    teacher: Path | None = None
    quiet: bool = False
    processes: Processes = ALONE
    workers: int | None = None


def describe(config: RunConfig, context: RunContext) -> None:
    """Write ``config.json`` and tell the tracker the settings."""
    if not context.processes.main:
        return
    device = device_name(context.device)
    tree = {
        "fingerprint": context.fingerprint,
        "experiment": config.experiment,
        "spec": config.spec.as_json(),
        "model": config.model.model_dump(mode="json"),
        "data": config.data.model_dump(mode="json"),
        "settings": config.settings.model_dump(mode="json"),
        "clouds": str(context.clouds),
        "start": context.start and str(context.start),
        "teacher": context.teacher and str(context.teacher),
        "device": device,
    }
    write_json(context.folder / CONFIG, tree)
    context.tracker.params(config.params() | {"device": device})


def device_name(device: torch.device) -> str:
    """``cpu``, or the GPU's name."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)
