"""What an experiment consists of, decided before anything runs."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from sa3d.config.experiment import ExperimentConfig
from sa3d.runs.fingerprint import data_digest
from sa3d.utils import paths
from sa3d.utils.files import write_whole

Kind = Literal["pretrain", "register", "task"]
CHILD = [sys.executable, "-m", "sa3d"]


@dataclass(frozen=True)
class Node:
    """One step: a training run of a subprocess, or the registration of its model.

    Attributes:
        name: ``task-arm``, unique in an experiment.
        kind: how it is run.
        task: the ``sa3d`` command, or ``register``.
        arm: ``method``, ``baseline`` or ``scratch``.
        model: the node whose exported model it starts from or registers.
        teacher: the node whose exported model is the knowledge teacher.
    """

    name: str
    kind: Kind
    task: str
    arm: str
    model: str | None = None
    teacher: str | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """Nodes that must have finished."""
        return tuple(name for name in (self.model, self.teacher) if name)


def nodes_of(config: ExperimentConfig) -> list[Node]:
    """The steps of an experiment, in the order in which they claim what is free."""
    found: list[Node] = []
    arms = ["method"]
    if config.baseline is not None:
        arms.append("baseline")
        found.append(Node("pretrain-baseline", "pretrain", "pretrain", "baseline"))
    teacher = "pretrain-baseline" if config.pretrain.method == "sa3df" else None
    found.append(Node("pretrain-method", "pretrain", "pretrain", "method", teacher=teacher))
    found += [
        Node(f"register-{arm}", "register", "register", arm, model=f"pretrain-{arm}")
        for arm in arms
    ]
    for task in config.tasks:
        found += [Node(f"{task}-{arm}", "task", task, arm, model=f"pretrain-{arm}") for arm in arms]
        if config.scratch:
            found.append(Node(f"{task}-scratch", "task", task, "scratch"))
    return found


@dataclass(frozen=True)
class Settings:
    """What all children of one flow share.

    Attributes:
        config: the experiment, with overrides applied.
        digest: of the processed data set's content.
        params: a file that says exactly ``config``, for children to read: the flow may have
            been started with values that stand in no ``params.yaml``.
        folder: the flow's own work folder.
        pipeline_id: the same for every attempt at the same experiment on the same data.
    """

    config: ExperimentConfig
    digest: str
    params: Path
    folder: Path
    pipeline_id: str


def settle(config: ExperimentConfig) -> Settings:
    """Check the processed data and write down what children will read.

    Raises:
        DataError: the data set was not prepared.
        WriteError: full disk, no permission.
    """
    digest = data_digest(paths.processed(config.data.name))
    said = json.dumps([config.model_dump(mode="json"), digest], sort_keys=True)
    pipeline_id = f"{config.name}-{hashlib.sha256(said.encode()).hexdigest()[:10]}"
    folder = paths.work() / f"experiment-{pipeline_id}"
    values = config.model_dump(mode="json", exclude={"name"})
    text = yaml.safe_dump({"experiments": {config.name: values}}, sort_keys=False)
    params = write_whole(folder / "params.yaml", text.encode())
    return Settings(config, digest, params, folder, pipeline_id)


def command(
    node: Node, settings: Settings, run_dir: Path, runs: Mapping[str, Path], threads: int
) -> list[str]:
    """The ``sa3d`` command of a training node.

    Args:
        node: of kind ``pretrain`` or ``task``.
        settings: of the flow.
        run_dir: where it shall write.
        runs: run folders of the nodes it needs.
        threads: of the processor.
    """
    words = [*CHILD, node.task, "--experiment", settings.config.name]
    words += ["--params", str(settings.params), "--out", str(run_dir), "--threads", str(threads)]
    if node.kind == "pretrain":
        words += ["--arm", node.arm]
        if node.teacher is not None:
            words += ["--knowledge-teacher", str(runs[node.teacher])]
    else:
        words += ["--from", str(runs[node.model]) if node.model else "scratch"]
    return words


def finished(run_dir: Path, fingerprint: str) -> dict[str, Any] | None:
    """The result of a run that is complete and is the one asked for, else None.

    ``result.json`` is written last, by rename: where it stands, the run is whole.
    """
    path = run_dir / paths.RESULT
    if not path.is_file():
        return None
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result if result.get("fingerprint") == fingerprint else None
