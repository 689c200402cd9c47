"""What a task says of itself, without importing what it computes with.

A task is one file (or package) that defines a :class:`Task`, and one line in
:data:`sa3d.registry.TASKS`. Everything else (command line, flow, MLflow, report) reads the
:class:`Task`; nothing outside the task's own files asks for its name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from sa3d.config.base import Frozen
from sa3d.models.settings import BackboneConfig

RESULT_NEUTRAL: Final = True


class TaskConfig(Frozen):
    """Base of a task's settings."""

    def resolved(self, model: BackboneConfig) -> TaskConfig:
        """These settings with every default that depends on the backbone filled in.

        Raises:
            ValueError: the backbone cannot do what they ask for.
        """
        return self

    def deciding(self, model: BackboneConfig) -> dict[str, Any]:
        """What decides a run's result, for its fingerprint."""
        return self.model_dump(mode="json")


@dataclass(frozen=True)
class Metric:
    """A number by which runs are compared.

    Attributes:
        name: its key in ``result.json`` and in MLflow, such as ``test/acc``.
        label: how reports call it.
        share: it lies in [0, 1] and is shown in per cent; differences are called points.
        higher_is_better: its direction.
        accuracy: it is the share of all test clouds whose class, one of all classes of the data
            set, is right; reports show chance and the data set's nearest-neighbour floor beside it.
    """

    name: str
    label: str
    share: bool = True
    higher_is_better: bool = True
    accuracy: bool = False


@dataclass(frozen=True)
class Folds:
    """How a task is divided into several runs of a seed.

    Attributes:
        count: number of folds that the task's settings ask for.
        independent: whether no two folds test the same clouds, or clouds of one family, and a
            fold tests the same ones with every seed. Reports then give an interval over folds;
            else mean and standard deviation alone.
    """

    count: Callable[[Any], int]
    independent: bool


@dataclass(frozen=True)
class Task:
    """What can be known of a task without importing what it computes with.

    Attributes:
        run: ``module:attribute`` of its ``run(config, context) -> Result``
            (:class:`sa3d.runs.config.RunConfig`, :class:`sa3d.runs.context.RunContext`).
        title: its heading in reports.
        help: its line in ``sa3d --help``.
        settings: class of its settings.
        metric: the number that its runs are compared by.
        requires: ``module:attribute`` of ``check(config, clouds)``, in a module without torch; it
            raises :class:`~sa3d.errors.DataError` where the run cannot be made from this data set.
            ``run`` asks it first, a flow before anything is trained. None: any data set will do.
        extras: further metrics that the report's table shows, with their labels.
        trains: which model of the backbone's :class:`~sa3d.registry.Architecture` it trains.
        selects: whether it carves validation clouds out of the training split.
        processes: whether ``torchrun`` may start several processes for one run.
        folds: into how many runs it is divided, and what they test; None: one run a seed.
        choice: a few words on what selection arrived at, out of a result's ``protocol``.
        how: one sentence on how its numbers come about, out of its settings.
        figures: ``module:attribute`` of functions that draw for the report; each takes a
            :class:`sa3d.report.sections.Section` and returns a list of charts.
        untrained: how a report calls the variant that starts from random weights, as in
            `above training from scratch`.
    """

    run: str
    title: str
    help: str
    settings: type[Frozen]
    metric: Metric
    requires: str | None = None
    extras: tuple[Metric, ...] = ()
    trains: Literal["classifier", "segmenter"] | None = None
    selects: bool = False
    processes: bool = False
    folds: Folds | None = None
    choice: Callable[[dict[str, Any]], str] | None = None
    how: Callable[[Any], str] | None = None
    figures: tuple[str, ...] = ()
    untrained: str = "training from scratch"

    def fold_numbers(self, settings: Frozen) -> tuple[int | None, ...]:
        """The folds to run, ``(None,)`` for a task without folds."""
        return (None,) if self.folds is None else tuple(range(self.folds.count(settings)))
