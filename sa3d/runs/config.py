"""The runs of an experiment, each with its identity and its complete settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from sa3d import registry
from sa3d.config.base import flat
from sa3d.config.data import DataConfig
from sa3d.config.experiment import CheckpointVariant, Evaluation, ExperimentConfig
from sa3d.errors import ConfigError
from sa3d.methods.settings import MethodConfig
from sa3d.models.settings import BackboneConfig
from sa3d.runs.spec import RunSpec
from sa3d.tasks.base import Task, TaskConfig

RESULT_NEUTRAL: Final = True


@dataclass(frozen=True)
class RunConfig:
    """Everything that a run reads.

    Attributes:
        experiment: its name.
        spec: the run's identity.
        model: the backbone.
        data: the data set.
        settings: of the task; of a pre-training, its method's.
        pretraining: settings of the pre-training that it starts from, where that is a run of the
            same experiment; for people to filter by.
    """

    experiment: str
    spec: RunSpec
    model: BackboneConfig
    data: DataConfig
    settings: MethodConfig | TaskConfig
    pretraining: MethodConfig | None = None

    @property
    def task(self) -> Task:
        """The run's task."""
        return registry.task(self.spec.task)

    @property
    def method(self) -> MethodConfig:
        """The settings of a pre-training."""
        assert isinstance(self.settings, MethodConfig), "a downstream run has no method"
        return self.settings

    def params(self) -> dict[str, Any]:
        """Dotted settings, for logging: those of the run, and of what it starts from."""
        tree = {
            "experiment": self.experiment,
            "model": self.model.model_dump(mode="json"),
            "data": self.data.model_dump(mode="json"),
            self.spec.task: self.settings.model_dump(mode="json"),
        }
        if self.pretraining is not None:
            tree[registry.PRETRAIN] = self.pretraining.model_dump(mode="json")
        return flat(tree)

    def deciding(self) -> dict[str, Any]:
        """The settings that decide the run's result, resolved.

        What the task does not read is left out, so that changing it changes nothing.
        """
        model = self.model.model_dump(mode="json")
        if self.task.trains is None:
            for key in self.model.fine_tuning:
                del model[key]
        data: dict[str, Any] = {"points": self.data.points}
        if self.data.endless is not None:
            data["source"] = self.data.endless.source  # its code counts
        if self.task.selects:
            data["val_fraction"] = self.data.val_fraction
        return {"model": model, "data": data, "settings": self.settings.deciding(self.model)}

    def protocol(self) -> dict[str, Any]:
        """What decides how a downstream run measures, whatever encoder it measures: numbers are
        compared only where this is the same. The data set is told apart by its digest."""
        decided = self.deciding()
        fine_tuning = {
            key: decided["model"][key]
            for key in sorted(self.model.fine_tuning)
            if key in decided["model"]
        }
        return {"data": decided["data"], "model": fine_tuning, "settings": decided["settings"]}


def runs_of(config: ExperimentConfig) -> list[RunConfig]:
    """Every run of an experiment, each after those that it needs."""
    pretrained: dict[tuple[str, int], RunConfig] = {}
    for name, method in config.methods.items():
        for seed in config.seeds:
            pretrained[name, seed] = _pretraining(config, name, method, seed, pretrained)
    found = list(pretrained.values())
    for evaluation in config.evaluate:
        found += _evaluations(config, evaluation, pretrained)
    return found


def _pretraining(
    config: ExperimentConfig,
    name: str,
    method: MethodConfig,
    seed: int,
    done: dict[tuple[str, int], RunConfig],
) -> RunConfig:
    assert config.pretrain is not None
    data = config.pretrain.data
    teacher = config.teacher_of(name)
    source = _start(config, teacher, seed, done) if teacher is not None else None
    spec = RunSpec(registry.PRETRAIN, name, data.name, seed, teacher=source)
    return RunConfig(config.name, spec, config.model, data, method)


def _evaluations(
    config: ExperimentConfig,
    evaluation: Evaluation,
    pretrained: dict[tuple[str, int], RunConfig],
) -> Iterable[RunConfig]:
    task = registry.task(evaluation.task)
    for place, seed in enumerate(evaluation.seeds):
        before = config.seeds[place % len(config.seeds)]
        for fold in task.fold_numbers(evaluation.settings):
            for name in evaluation.variants:
                start = pretrained.get((name, before))
                spec = RunSpec(
                    evaluation.task,
                    name,
                    evaluation.data.name,
                    seed,
                    fold,
                    evaluation.label,
                    _start(config, name, before, pretrained),
                )
                yield RunConfig(
                    config.name,
                    spec,
                    evaluation.model,
                    evaluation.data,
                    evaluation.settings,
                    start.method if start is not None else None,
                )


def _start(
    config: ExperimentConfig, name: str, seed: int, done: dict[tuple[str, int], RunConfig]
) -> RunSpec | str | None:
    """What a variant's encoder is: a pre-training, a checkpoint, or None for random weights."""
    variant = config.variants[name]
    if isinstance(variant, CheckpointVariant):
        return variant.checkpoint
    return done[name, seed].spec if isinstance(variant, MethodConfig) else None


def choose(
    config: ExperimentConfig,
    task: str,
    *,
    variant: str | None = None,
    data: str | None = None,
    label: str | None = None,
    seed: int | None = None,
    fold: int | None = None,
) -> RunConfig:
    """The run of an experiment that fits what is given; of several the first.

    Args:
        config: the experiment.
        task: of the run.
        variant: the experiment's reference by default.
        data, label, seed, fold: the first there is by default.

    Raises:
        ConfigError: there is none; with what the experiment has.
    """
    wanted = {
        "variant": variant or config.reference,
        "data": data,
        "label": label,
        "seed": seed,
        "fold": fold,
    }
    runs = [run for run in runs_of(config) if run.spec.task == task]
    left = runs
    for key, value in wanted.items():
        if value is None:
            continue
        fitting = [run for run in left if getattr(run.spec, key) == value]
        if not fitting:
            values = dict.fromkeys(getattr(run.spec, key) for run in left)
            there = ", ".join(str(each) for each in values if each not in (None, ""))
            raise ConfigError(
                f"experiment '{config.name}' has no {task} with {key} {value}; there is: "
                f"{there or 'none at all'}"
            )
        left = fitting
    if not left:
        raise ConfigError(
            f"experiment '{config.name}' has no {task}; add it to its `evaluate` in params.yaml"
        )
    return left[0]
