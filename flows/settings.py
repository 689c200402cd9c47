"""What the children of a flow share: checked data, and files of settings that they read."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from sa3d import registry
from sa3d.config.experiment import ExperimentConfig
from sa3d.errors import AbsentDataError
from sa3d.runs.config import runs_of
from sa3d.runs.fingerprint import Located, digest_of
from sa3d.runs.requirements import check_data
from sa3d.utils import paths
from sa3d.utils.files import write_whole

CHILD = [sys.executable, "-m", "sa3d"]


@dataclass(frozen=True)
class Settings:
    """What all children of one flow share.

    Attributes:
        configs: the experiments by name, with overrides applied.
        digests: of the content of every data set that is there, by name.
        absent: of every other why it is not, by name.
        params: by name of an experiment, a file that says exactly this one of ``configs``, for
            its children to read: the flow may have been started with values that stand in no
            ``params.yaml``. One file each, because a child reads the whole file that it is given:
            in an ablation of 100 cells it would read 99 that do not concern it.
        folder: the flow's own work folder.
        pipeline_id: the same for every attempt at the same experiments on the same data.
    """

    configs: dict[str, ExperimentConfig]
    digests: dict[str, str]
    absent: dict[str, str]
    params: Mapping[str, Path]
    folder: Path
    pipeline_id: str


def settle(*configs: ExperimentConfig, name: str | None = None) -> Settings:
    """Check the processed data and write down what children will read.

    Args:
        configs: the experiments.
        name: of all of them together, for the work folder; None: that of the first.

    Raises:
        DataError: a data set was not prepared, or a task cannot be run on it. AbsentDataError: one
            that everything needs is absent. WriteError: full disk, no permission.
    """
    digests, absent = {}, {}
    needed = {c.pretrain.data.name for c in configs if c.pretrain is not None}
    read = {name: data for config in reversed(configs) for name, data in config.data.items()}
    for data in dict.fromkeys(data for config in configs for data in config.datasets):
        try:
            digests[data] = digest_of(read[data])
        except AbsentDataError as error:
            if data in needed:
                raise  # nothing that could be compared would be left
            absent[data] = str(error)
    if not digests:
        raise AbsentDataError("; ".join(absent.values()))
    runs = (run for config in configs for run in runs_of(config))
    check_data(run for run in runs if run.data.name in digests)
    text = json.dumps(
        [*(each.model_dump(mode="json") for each in configs), digests], sort_keys=True
    )
    pipeline_id = f"{name or configs[0].name}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"
    folder = paths.work() / f"experiment-{pipeline_id}"
    params = {
        each.name: write_whole(folder / "params" / f"{each.name}.yaml", params_text(each).encode())
        for each in configs
    }
    return Settings(
        {each.name: each for each in configs}, digests, absent, params, folder, pipeline_id
    )


def params_text(config: ExperimentConfig) -> str:
    """A ``params.yaml`` with this experiment alone, complete and without recipes."""
    values = {config.name: config.model_dump(mode="json", exclude={"name"})}
    return yaml.safe_dump({"experiments": values}, sort_keys=False)


def command(located: Located, settings: Settings) -> list[str]:
    """The ``sa3d`` command that makes a run, without what it computes on.

    Args:
        located: the run, its folder, and the models that it starts from.
        settings: of the flow.
    """
    spec, experiment = located.run.spec, located.run.experiment
    words = [*CHILD, spec.task, "-e", experiment, "--params", str(settings.params[experiment])]
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
