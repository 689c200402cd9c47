"""``numbers.yaml``, read into types. Shares are in [0, 1] here, per cent in the file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from sa3d.config.base import Frozen, Positive
from sa3d.config.yaml_file import read_yaml

HERE = Path(__file__).parent
NUMBERS = HERE / "numbers.yaml"
LOGS = HERE / "logs"


class Source(Frozen):
    """Where a number is from."""

    name: str = Field(description="in a table")
    reference: str = Field(description="what to cite")
    selected_on_test: bool = Field(description="the best of several readings of the test split")
    third_party: bool = Field(False, description="others measured the authors' checkpoint")
    caveat: str = Field("", description="what to know of all its numbers")


class Drawn(Frozen):
    """How our runs are drawn over an official log."""

    how: Literal["by-epoch", "end", "level"]
    journal: dict[str, str] = Field({}, description="what is read -> metric; the first there is")


class Quantity(Frozen):
    """What is measured."""

    title: str
    family: str = Field(description="quantities read by the same kind of evaluation code")
    ours: dict[str, str] = Field(min_length=1, description="kind -> our metric")
    compared: str = Field(description="the kind that is held against the published number")
    binomial: bool = Field(description="a share of test clouds, each right or wrong")
    drawn: Drawn | None = None

    @property
    def metric(self) -> str:
        """Our metric that is compared."""
        return self.ours[self.compared]


class Facts(NamedTuple):
    """What of a run decides which published results it is held against."""

    method: str  # of pre-training, or `scratch`
    backbone: str
    task: str
    data: str
    points: int
    settings: Mapping[str, Any]  # of the task; flat, keys joined by dots


class Match(Frozen):
    """Which runs a published result concerns."""

    method: str
    backbone: str
    task: str
    data: str
    points: Positive | None = Field(None, description="null: any number of points")
    settings: dict[str, Any] = Field({}, description="settings of the task that must be equal")

    def fits(self, run: Facts) -> bool:
        """Whether the run is one of them."""
        same = (self.method, self.backbone, self.task, self.data) == run[:4]
        return (
            same
            and self.points in (None, run.points)
            and all(run.settings.get(key) == value for key, value in self.settings.items())
        )


class Value(Frozen):
    """A number as it was published."""

    source: str
    value: float = Field(gt=0.0, lt=100.0, description="in per cent")
    sd: float | None = Field(None, gt=0.0, description="over folds, in points")
    selected_on_test: bool | None = Field(None, description="null: as all numbers of its source")
    note: str = ""

    @property
    def share(self) -> float:
        """In [0, 1]."""
        return self.value / 100


class Log(Frozen):
    """A column of an official log."""

    source: str
    file: str
    run: str = Field("", description="where a file holds several runs")
    column: str
    x: Literal["epoch", "vote"] = "epoch"
    unit: Literal["percent", "share"] = "percent"
    tail: Positive = Field(20, description="last readings whose mean and s.d. are taken")


class Goal(Frozen):
    """A published number that runs of one recipe are held against."""

    target: str = Field(description="the source whose number it is: a log's last epochs, a value")
    pretraining: str | None = Field(None, description="its name in `pretrainings`; null: none")
    points: Positive
    model: dict[str, Any] = Field({}, description="of the evaluated backbone, not its defaults")
    settings: dict[str, Any] = Field({}, description="of the task; others may be anything")


class Pretraining(Frozen):
    """A published pre-training."""

    method: str = Field(description="as in `match`")
    data: str
    points: Positive
    settings: dict[str, Any] = Field(description="of the method, keys joined by dots")
    teacher: str | None = Field(None, description="the pre-training of its knowledge teacher")


class Published(Frozen):
    """A published result: what it concerns, its numbers, its logs."""

    match: Match
    quantity: str
    test_clouds: Positive
    values: tuple[Value, ...] = ()
    logs: tuple[Log, ...] = ()
    goals: tuple[Goal, ...] = Field(min_length=1)

    def value(self, source: str) -> Value | None:
        """The number of a source."""
        return next((each for each in self.values if each.source == source), None)

    def log(self, source: str) -> Log | None:
        """The log of a source."""
        return next((each for each in self.logs if each.source == source), None)


class Weights(Frozen):
    """A log gives a loss times ``by`` from an epoch on."""

    from_epoch: int = Field(ge=0)
    by: float = Field(gt=0.0)


class PretrainingCurve(Frozen):
    """Columns of the official log of a pre-training that are drawn with a metric of ours."""

    match: Match
    metric: str
    source: str
    file: str
    columns: tuple[str, ...] = Field(min_length=1)
    weights: Weights | None = None


class Numbers(Frozen):
    """All of ``numbers.yaml``."""

    sources: dict[str, Source]
    quantities: dict[str, Quantity]
    pretrainings: dict[str, Pretraining]
    results: tuple[Published, ...]
    pretraining_curves: tuple[PretrainingCurve, ...] = ()

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for each in self.results:
            where = f"{each.quantity} of {each.match}"
            sources = {v.source for v in each.values} | {log.source for log in each.logs}
            _known(where, sources, self.sources)
            _known(where, [each.quantity], self.quantities)
            _known(where, [g.target for g in each.goals], sources)
            _known(where, [g.pretraining for g in each.goals if g.pretraining], self.pretrainings)
            _known(where, [log.file for log in each.logs], _files())
        teachers = [each.teacher for each in self.pretrainings.values() if each.teacher]
        _known("teacher", teachers, self.pretrainings)
        for curve in self.pretraining_curves:
            _known(curve.metric, [curve.source], self.sources)
            _known(curve.metric, [curve.file], _files())
        for name, quantity in self.quantities.items():
            _known(name, [quantity.compared], quantity.ours)
        return self

    def selected(self, value: Value) -> bool:
        """Whether a number was selected on test."""
        own = value.selected_on_test
        return self.sources[value.source].selected_on_test if own is None else own

    def of(self, run: Facts) -> list[Published]:
        """The results that concern a run, one a quantity: that with the narrowest conditions."""
        found: dict[str, Published] = {}
        for each in (each for each in self.results if each.match.fits(run)):
            known = found.setdefault(each.quantity, each)
            if _conditions(each.match) > _conditions(known.match):
                found[each.quantity] = each
        return list(found.values())


def _conditions(match: Match) -> int:
    return (match.points is not None) + len(match.settings)


def _known(where: str, names: Iterable[str], table: Iterable[str]) -> None:
    unknown = sorted(set(names) - set(table))
    if unknown:
        raise ValueError(f"{where}: {', '.join(unknown)} stands nowhere else in the file")


@cache
def _files() -> frozenset[str]:
    return frozenset(path.name for path in LOGS.glob("*.csv"))


@cache
def numbers() -> Numbers:
    """The published numbers.

    Raises:
        ConfigError, ValidationError: ``numbers.yaml`` was damaged.
    """
    return Numbers.model_validate(read_yaml(NUMBERS))
