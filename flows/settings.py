"""What the children of a flow share: checked data, and a file of settings that they read."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from sa3d import registry
from sa3d.config.experiment import ExperimentConfig
from sa3d.errors import AbsentDataError
from sa3d.runs.config import runs_of
from sa3d.runs.fingerprint import Located, data_digest
from sa3d.runs.requirements import check_data
from sa3d.utils import paths
from sa3d.utils.files import write_whole

CHILD = [sys.executable, "-m", "sa3d"]


@dataclass(frozen=True)
class Settings:
    """What all children of one flow share.

    Attributes:
        config: the experiment, with overrides applied.
        digests: of the content of every data set that is there, by name.
        absent: of every other why it is not, by name.
        params: a file that says exactly ``config``, for children to read: the flow may have
            been started with values that stand in no ``params.yaml``.
        folder: the flow's own work folder.
        pipeline_id: the same for every attempt at the same experiment on the same data.
    """

    config: ExperimentConfig
    digests: dict[str, str]
    absent: dict[str, str]
    params: Path
    folder: Path
    pipeline_id: str


def settle(config: ExperimentConfig) -> Settings:
    """Check the processed data and write down what children will read.

    Raises:
        DataError: a data set was not prepared, or a task cannot be run on it. AbsentDataError: one
            that everything needs is absent. WriteError: full disk, no permission.
    """
    digests, absent = {}, {}
    for name in config.datasets:
        try:
            digests[name] = data_digest(paths.processed(name))
        except AbsentDataError as error:
            if config.pretrain is not None and config.pretrain.data.name == name:
                raise  # nothing that could be compared would be left
            absent[name] = str(error)
    if not digests:
        raise AbsentDataError("; ".join(absent.values()))
    check_data(run for run in runs_of(config) if run.data.name in digests)
    text = json.dumps([config.model_dump(mode="json"), digests], sort_keys=True)
    pipeline_id = f"{config.name}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"
    folder = paths.work() / f"experiment-{pipeline_id}"
    params = write_whole(folder / "params.yaml", params_text(config).encode())
    return Settings(config, digests, absent, params, folder, pipeline_id)


def params_text(config: ExperimentConfig) -> str:
    """A ``params.yaml`` with this experiment alone, complete and without recipes."""
    values = config.model_dump(mode="json", exclude={"name"})
    return yaml.safe_dump({"experiments": {config.name: values}}, sort_keys=False)


def command(located: Located, settings: Settings) -> list[str]:
    """The ``sa3d`` command that makes a run, without what it computes on.

    Args:
        located: the run, its folder, and the models that it starts from.
        settings: of the flow.
    """
    spec = located.run.spec
    words = [*CHILD, spec.task, "-e", settings.config.name, "--params", str(settings.params)]
    words += ["--variant", spec.variant]
    if spec.task != registry.PRETRAIN:
        # an empty label too: it tells this evaluation from one that has a label
        words += ["--data", spec.data, "--label", spec.label]
    words += ["--seed", str(spec.seed)]
    if spec.fold is not None:
        words += ["--fold", str(spec.fold)]
    if located.start is not None:
        words += ["--from", str(located.start)]
    if located.teacher is not None:
        words += ["--teacher", str(located.teacher)]
    return [*words, "--out", str(located.folder)]
