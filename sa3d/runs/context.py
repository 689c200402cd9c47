"""What every task shares: its context, its result, and the files of a run folder."""

from __future__ import annotations

import contextlib
import fcntl
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from sa3d.config.experiment import ExperimentConfig
from sa3d.data.split import Splits
from sa3d.data.store import CloudSet
from sa3d.engine.distributed import ALONE, Processes
from sa3d.errors import UserError
from sa3d.tracking.journal import Status, Tracker
from sa3d.utils.files import write_whole
from sa3d.utils.paths import RESULT

Arm = Literal["method", "baseline", "scratch"]
CONFIG, PREDICTIONS = "config.json", "predictions.npz"


@dataclass(frozen=True)
class RunContext:
    """Where and how a task runs.

    Attributes:
        run_dir: everything the run leaves behind.
        fingerprint: of the run (:mod:`sa3d.runs.fingerprint`).
        device: where models lie.
        tracker: journal and MLflow.
        arm: what is compared: the method, its baseline, or random weights.
        clouds_path: processed data.
        init: exported model to start from; None from scratch.
        knowledge_teacher: exported model that sa3df distils.
        quiet: no progress line.
        processes: this process among those of the run.
    """

    run_dir: Path
    fingerprint: str
    device: torch.device
    tracker: Tracker
    arm: Arm
    clouds_path: Path
    init: Path | None = None
    knowledge_teacher: Path | None = None
    quiet: bool = False
    processes: Processes = ALONE


@dataclass(frozen=True)
class Result:
    """What ``result.json`` holds. That file is written last: it alone marks a run as done."""

    task: str
    arm: str
    experiment: str
    seed: int
    fingerprint: str
    metrics: Mapping[str, float]
    seconds: float
    data: Mapping[str, Any]
    protocol: Mapping[str, Any]
    artifacts: Mapping[str, str]  # name -> path below the run folder
    confusion: Mapping[str, Any] | None = None  # matrix (rows: true class), class_names
    device: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold the run folder; the lock goes with the process, however it ends.

    Raises:
        UserError: another process works there, or the folder cannot be made.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        file = (run_dir / ".lock").open("w")
    except OSError as error:
        raise UserError(f"cannot use {run_dir}: {error.strerror}; choose another --out") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"another process is working in {run_dir}; wait for it") from None
        yield


def describe(run: RunContext, config: ExperimentConfig) -> None:
    """Write ``config.json`` and tell the tracker the settings."""
    if not run.processes.main:
        return
    tree = {
        "fingerprint": run.fingerprint,
        "arm": run.arm,
        "init": run.init and str(run.init),
        "knowledge_teacher": run.knowledge_teacher and str(run.knowledge_teacher),
        "data": str(run.clouds_path),
        "device": device_name(run.device),
        "experiment": config.model_dump(mode="json"),
    }
    write_json(run.run_dir / CONFIG, tree)
    run.tracker.params(config.dotted() | {"arm": run.arm, "device": device_name(run.device)})


def finish(run: RunContext, result: Result) -> Result:
    """Hand artifacts and metrics to the tracker and write ``result.json``, last and whole."""
    for path in result.artifacts.values():
        run.tracker.artifact(run.run_dir / path)
    run.tracker.flush()
    write_json(run.run_dir / RESULT, asdict(result))
    run.tracker.artifact(run.run_dir / RESULT)
    return result


def result_of(
    run: RunContext, config: ExperimentConfig, clouds: CloudSet, task: str, **facts: Any
) -> Result:
    """A :class:`Result` with what all tasks state alike; ``facts`` are its other fields."""
    return Result(
        task=task,
        arm=run.arm,
        experiment=config.name,
        seed=config.seed,
        fingerprint=run.fingerprint,
        device=device_name(run.device),
        versions={
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "threads": str(torch.get_num_threads()),
        },
        **facts | {"data": data_facts(config, clouds) | facts.get("data", {})},
    )


def data_facts(config: ExperimentConfig, clouds: CloudSet) -> dict[str, Any]:
    """Identity and counts of the data, with what its summary file adds (floor, licence)."""
    facts: dict[str, Any] = {
        "name": config.data.name,
        "points": config.data.points,
        "num_classes": clouds.num_classes,
        "digest": clouds.digest,
        "floor": None,
    }
    summary = clouds.path.with_suffix(".json")
    if summary.is_file():
        stored = json.loads(summary.read_text(encoding="utf-8"))
        # a summary left from another file of that name says nothing about this one
        if stored.get("digest") == clouds.digest:
            facts["floor"] = stored.get("descriptor_5nn_accuracy")
            facts |= {k: stored[k] for k in ("licence", "split", "note") if k in stored}
    return facts


def split_counts(splits: Splits) -> dict[str, int]:
    """``train``, ``val`` and ``test`` clouds."""
    return {"train": len(splits.train), "val": len(splits.val), "test": len(splits.test)}


def device_name(device: torch.device) -> str:
    """``cpu``, or the GPU's name."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)


def write_json(path: Path, tree: Mapping[str, Any]) -> None:
    """Write JSON, whole; a value that is not finite is a bug."""
    text = json.dumps(tree, indent=2, allow_nan=False, default=_plain) + "\n"
    write_whole(path, text.encode())


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not for JSON")


class Silent:
    """The tracker of every process but the main one: tells nothing."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Nothing."""

    def params(self, values: Mapping[str, Any]) -> None:
        """Nothing."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Nothing."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """Nothing."""

    def resume(self, step: int) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""

    def close(self, status: Status) -> None:
        """Nothing."""
