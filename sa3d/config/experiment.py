"""An experiment: ways to an encoder, and what each of them is evaluated on.

Everything that one setting takes over from another (a variant from `pretrain`, an evaluation
from the experiment) is filled in by :mod:`sa3d.config.resolve` when the experiment is loaded.
The classes here hold the complete settings; nothing asks for a default later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializeAsAny,
    ValidationInfo,
    model_validator,
)

from sa3d import registry
from sa3d.config.base import DEFAULT_SEEDS, Frozen, Seed
from sa3d.config.data import DataConfig
from sa3d.config.union import by_name
from sa3d.methods.settings import MethodConfig
from sa3d.models.settings import DEFAULT, BackboneConfig
from sa3d.published.numbers import numbers
from sa3d.tasks.base import TaskConfig

NAME = r"^[a-z0-9][a-z0-9._-]*$"
Name = Annotated[str, Field(pattern=NAME)]


def _downstream(name: str) -> str:
    return registry.known(dict.fromkeys(registry.downstream()), "task")(name)


TaskName = Annotated[str, AfterValidator(_downstream)]


def _published(name: str) -> str:
    known = numbers().pretrainings
    if name not in known:
        raise ValueError(f"published={name}: known are {', '.join(known)}")
    return name


def _backbone(value: object) -> object:
    return by_name(value, registry.BACKBONES, "backbone", key="backbone", default=DEFAULT)


# Whatever is not a backbone's own code reads what BackboneConfig names, and no more.
ModelConfig = Annotated[SerializeAsAny[BackboneConfig], BeforeValidator(_backbone)]


class CheckpointVariant(Frozen):
    """An encoder that was pre-trained elsewhere."""

    checkpoint: str = Field(description="run folder of a pre-training, or its `model` folder")
    published: Annotated[str, AfterValidator(_published)] | None = Field(
        None,
        description="whose weights these are, of the `pretrainings` in "
        "sa3d/published/numbers.yaml: reports then show what was published of them; null: nothing",
    )


class ScratchVariant(Frozen):
    """Random weights."""

    scratch: Literal[True] = Field(description="true: the encoder has random weights")


# what a variant without a `method` is, by its one key
OTHER_VARIANTS: Final[dict[str, type[Frozen]]] = {
    "checkpoint": CheckpointVariant,
    "scratch": ScratchVariant,
}


def _variant(value: object) -> object:
    """A variant is a method with its settings, a checkpoint, or random weights."""
    if isinstance(value, Frozen):
        return value
    ways = {"method", *OTHER_VARIANTS} & set(value if isinstance(value, Mapping) else ())
    if len(ways) != 1:
        raise ValueError("a variant has exactly one of `method`, `checkpoint` and `scratch`")
    other = OTHER_VARIANTS.get(ways.pop())
    if other is not None:
        return other.model_validate(value)
    return by_name(value, registry.METHODS, "method", key="method")


Variant = Annotated[
    SerializeAsAny[MethodConfig] | CheckpointVariant | ScratchVariant, BeforeValidator(_variant)
]


class PretrainConfig(Frozen):
    """What pre-training reads. In params.yaml also the settings that all methods share."""

    data: DataConfig = Field(description="the clouds; their labels are not read")


def _settings(value: object, info: ValidationInfo) -> object:
    """A task's settings, read by the class that the task brings."""
    task = info.data.get("task")
    if task is None:
        return TaskConfig()  # the name itself was refused, which is told
    if not isinstance(value, Mapping):
        return value
    return registry.task(task).settings.model_validate(value)


class Evaluation(Frozen):
    """One task on one data set, for some variants and seeds."""

    task: TaskName = Field(description="downstream task")
    label: str = Field(
        "",
        pattern=r"^([a-z0-9][a-z0-9._-]*)?$",
        description="tells two evaluations of the same task on the same data set apart",
    )
    data: DataConfig = Field(description="the clouds; default: those of pre-training")
    model: ModelConfig = Field(
        description="the backbone; may group the points otherwise than pre-training did"
    )
    settings: Annotated[SerializeAsAny[TaskConfig], BeforeValidator(_settings)] = Field(
        description="the task's own settings"
    )
    variants: tuple[str, ...] = Field(min_length=1, description="default: all of the experiment")
    seeds: tuple[Seed, ...] = Field(
        min_length=1,
        description="one run each; the i-th starts from the pre-training with the i-th seed of "
        "the experiment, beginning again where those are fewer",
    )

    @property
    def name(self) -> str:
        """``task-label-data``, unique in an experiment."""
        return "-".join(part for part in (self.task, self.label, self.data.name) if part)


class ExperimentConfig(Frozen):
    """One experiment."""

    name: str = Field(description="key under `experiments` in params.yaml")
    description: str = Field("", description="one line for people")
    seeds: tuple[Seed, ...] = Field(
        DEFAULT_SEEDS,
        min_length=1,
        description="of weights, batches, masks and splits; a whole run each",
    )
    model: ModelConfig = Field(description="the backbone")
    pretrain: PretrainConfig | None = Field(
        None, description="pre-training; null: no variant is pre-trained here"
    )
    variants: dict[Name, Variant] = Field(min_length=1, description="ways to an encoder, by name")
    reference: str = Field(description="the variant that the others are compared with")
    evaluate: tuple[Evaluation, ...] = Field((), description="downstream tasks")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _once("seeds", self.seeds)
        label = "; give one of them a `label`"
        _once("evaluate", [each.name for each in self.evaluate], label)
        _once("evaluate", [f"{e.name}-{v}" for e in self.evaluate for v in set(e.variants)], label)
        self._known("reference", self.reference)
        for name, variant in self.variants.items():
            if isinstance(variant, MethodConfig):
                self._check_method(name, variant)
        for number, evaluation in enumerate(self.evaluate):
            self._check_evaluation(number, evaluation)
        _in_order(self.methods)
        self._resolve()
        return self

    def _known(self, key: str, name: str) -> None:
        if name not in self.variants:
            raise ValueError(
                f"{key}={name}: no such variant{registry.nearest(name, self.variants)}; there "
                f"are: {', '.join(self.variants)}"
            )

    def _check_method(self, name: str, variant: MethodConfig) -> None:
        if self.pretrain is None:
            raise ValueError(
                f"variants.{name} is pre-trained by method {variant.method}, but `pretrain` with "
                "its data is missing"
            )
        if variant.mask.needs_scores and not variant.has_scores:
            raise ValueError(
                f"variants.{name}.mask={variant.mask.name} needs a method that predicts scores, "
                f"which method={variant.method} does not; use {_scoring_methods()}"
            )
        if variant.has_teacher:
            teacher = self.teacher_of(name)
            self._known(f"variants.{name}.teacher", str(teacher))
            if isinstance(self.variants[str(teacher)], ScratchVariant):
                raise ValueError(
                    f"variants.{name}.teacher={teacher} has random weights; name a variant that "
                    "is pre-trained"
                )
        if self.model.least_points > self.pretrain.data.points:
            raise ValueError(
                f"the patches of `model` need clouds of {self.model.least_points} points, "
                f"pretrain.data.points={self.pretrain.data.points}"
            )

    def _check_evaluation(self, number: int, evaluation: Evaluation) -> None:
        where, model = f"evaluate.{number}", evaluation.model
        _once(f"{where}.seeds", evaluation.seeds)
        _once(f"{where}.variants", evaluation.variants)
        if evaluation.data.endless is not None:
            raise ValueError(
                f"{where}.data.name={evaluation.data.name} is made for pre-training and has no "
                "test clouds of known classes; name another data set"
            )
        for variant in evaluation.variants:
            self._known(f"{where}.variants", variant)
        if model.least_points > evaluation.data.points:
            raise ValueError(
                f"the patches of {where}.model need clouds of {model.least_points} points, "
                f"{where}.data.points={evaluation.data.points}"
            )
        free = model.regrouping | model.fine_tuning
        ours, theirs = (m.model_dump(exclude=set(free)) for m in (model, self.model))
        differing = [key for key in ours if ours[key] != theirs.get(key)]
        if differing:
            raise ValueError(
                f"{where}.model.{differing[0]}={ours[differing[0]]} is not the experiment's "
                f"{theirs.get(differing[0])}: an evaluation may change only "
                f"{', '.join(sorted(free)) or 'nothing of this backbone'}"
            )

    def _resolve(self) -> None:
        """Fill in the defaults that depend on the backbone, once."""
        variants: dict[str, Any] = {}
        for name, variant in self.variants.items():
            try:
                variants[name] = (
                    variant.resolved(self.model) if isinstance(variant, MethodConfig) else variant
                )
            except ValueError as error:
                raise ValueError(f"variants.{name}: {error}") from None
        evaluate = []
        for number, each in enumerate(self.evaluate):
            try:
                settings = each.settings.resolved(each.model)
            except ValueError as error:
                raise ValueError(f"evaluate.{number}.settings: {error}") from None
            evaluate.append(each.model_copy(update={"settings": settings}))
        # the class is frozen for everybody else
        object.__setattr__(self, "variants", variants)
        object.__setattr__(self, "evaluate", tuple(evaluate))

    @property
    def methods(self) -> dict[str, MethodConfig]:
        """The variants that are pre-trained here, a teacher before its student."""
        found = {n: v for n, v in self.variants.items() if isinstance(v, MethodConfig)}
        return {name: found[name] for name in _in_order(found)}

    def teacher_of(self, name: str) -> str | None:
        """The variant that ``name`` distils; None: it distils none."""
        return getattr(self.variants[name], "teacher", None)

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of all data sets that the experiment reads, without repetition."""
        return tuple(self.data)

    @property
    def data(self) -> dict[str, DataConfig]:
        """What it reads of each data set first, by the name of the data set."""
        pretrain = [self.pretrain.data] if self.pretrain is not None and self.methods else []
        found: dict[str, DataConfig] = {}
        for each in (*pretrain, *(evaluation.data for evaluation in self.evaluate)):
            found.setdefault(each.name, each)
        return found


def _scoring_methods() -> str:
    names = registry.METHODS
    settings = {name: registry.settings_of(names, "method", name) for name in names}
    return " or ".join(name for name, kind in settings.items() if kind.has_scores)


def _once(key: str, names: Sequence[object], remedy: str = "") -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{key} has {twice} more than once{remedy}")


def _in_order(methods: Mapping[str, MethodConfig]) -> list[str]:
    """Names with every teacher before its student.

    Raises:
        ValueError: variants that are each other's teachers.
    """
    done: list[str] = []
    waiting = list(methods)
    while waiting:
        free = [n for n in waiting if getattr(methods[n], "teacher", None) not in waiting]
        if not free:
            raise ValueError(f"variants are each other's teachers: {', '.join(waiting)}")
        done += free
        waiting = [name for name in waiting if name not in free]
    return done
