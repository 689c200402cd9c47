"""What every task shares: its context, its result, and the files of a run folder."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from filelock import FileLock, Timeout

from sa3d.config.experiment import ExperimentConfig
from sa3d.data.split import Splits
from sa3d.data.store import CloudSet
from sa3d.engine.distributed import ALONE, Processes
from sa3d.errors import UserError
from sa3d.tracking.journal import Tracker
from sa3d.utils.files import write_whole
from sa3d.utils.paths import RESULT

Arm = Literal["method", "baseline", "scratch"]
CONFIG, PREDICTIONS = "config.json", "predictions.npz"
_LOCK = ".lock"
_VOTE_SECONDS = 10.0  # between votes of several processes on whether the main one still waits


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
        quiet: show no progress.
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
def locked(run_dir: Path, group: Processes = ALONE) -> Iterator[None]:
    """Hold the run folder, alone among all commands; the lock goes with the process, however it
    ends. If another command is making this run, say so and wait until it ends: the result may be
    there afterwards.

    Args:
        run_dir: made if it is missing.
        group: the processes of this run; the main one holds the lock, all wait.

    Raises:
        UserError: the folder cannot be made or locked.
    """
    # soft locks, which filelock would use where there is no flock, stay behind after a kill
    lock = FileLock(run_dir / _LOCK, fallback_to_soft=False)
    waiting = False
    # a vote now and then: the others must not wait for the main process longer than their
    # communication allows
    while group.any(group.main and not _acquired(lock, _VOTE_SECONDS if waiting else 0.0))[0]:
        if group.main and not waiting:
            print(_busy(run_dir), file=sys.stderr, flush=True)  # noqa: T201
        waiting = True
    try:
        if group.main:
            holder = {"pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
            (run_dir / _LOCK).write_text(json.dumps(holder), encoding="utf-8")
        yield
    finally:
        lock.release()


def _acquired(lock: FileLock, timeout: float) -> bool:
    path = Path(lock.lock_file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=timeout)
    except Timeout:
        return False
    except OSError as error:
        raise UserError(
            f"cannot use {path.parent}: {error.strerror}; choose another --out"
        ) from None
    return True


def _busy(run_dir: Path) -> str:
    """Who holds the lock, as far as it has said so by now."""
    try:
        holder = json.loads((run_dir / _LOCK).read_text(encoding="utf-8"))
        who = f"another process (pid {holder['pid']}, since {holder['since']})"
    except (OSError, ValueError):
        who = "another process"
    return f"{who} is making this run; waiting for it"


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
    return {name: len(rows) for name, rows in splits._asdict().items()}


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
