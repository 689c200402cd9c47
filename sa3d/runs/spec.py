"""Which run is which: the one name that planner, folders, MLflow and reports use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

RESULT_NEUTRAL: Final = True


@dataclass(frozen=True)
class RunSpec:
    """The identity of a run within an experiment.

    Attributes:
        task: ``pretrain`` or a downstream task.
        variant: the way to an encoder.
        data: the data set.
        seed: of weights, batches, masks and splits.
        fold: 0-based fold; None for a task without folds.
        label: tells two evaluations of the same task on the same data set apart; else empty.
        start: what it starts from: a pre-training, the path of a checkpoint, or None for random
            weights.
        teacher: the knowledge teacher, likewise.
    """

    task: str
    variant: str
    data: str
    seed: int
    fold: int | None = None
    label: str = ""
    start: RunSpec | str | None = None
    teacher: RunSpec | str | None = None

    @property
    def evaluation(self) -> str:
        """``task-label-data``: what runs have in common that a report compares."""
        return "-".join(part for part in (self.task, self.label, self.data) if part)

    @property
    def name(self) -> str:
        """``svm-shapes-sa3df-s0``: unique in an experiment, and part of the folder's name."""
        fold = "" if self.fold is None else f"-f{self.fold}"
        return f"{self.evaluation}-{self.variant}-s{self.seed}{fold}"

    @property
    def short(self) -> str:
        """What differs between runs of one task: the run's name in MLflow."""
        fold = "" if self.fold is None else f"-f{self.fold}"
        label = f"-{self.label}" if self.label else ""
        return f"{self.variant}-{self.data}{label}-s{self.seed}{fold}"

    @property
    def needs(self) -> tuple[RunSpec, ...]:
        """The runs that must have finished before this one."""
        return tuple(each for each in (self.start, self.teacher) if isinstance(each, RunSpec))

    def tags(self) -> dict[str, str]:
        """Labels of the run in MLflow; what does not apply is left out."""
        tree = {
            "task": self.task,
            "variant": self.variant,
            "data": self.data,
            "seed": self.seed,
            "fold": self.fold,
            "label": self.label or None,
            "start": _named(self.start),
            "teacher": _named(self.teacher),
        }
        return {key: str(value) for key, value in tree.items() if value is not None}

    def as_json(self) -> dict[str, Any]:
        """Plain values, which :meth:`from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> RunSpec:
        """The inverse of :meth:`as_json`.

        Raises:
            TypeError, KeyError: it is not the description of a run.
        """
        linked = {
            key: cls.from_json(tree[key]) if isinstance(tree.get(key), Mapping) else tree.get(key)
            for key in ("start", "teacher")
        }
        return cls(**{**tree, **linked})


def _named(other: RunSpec | str | None) -> str | None:
    return other.name if isinstance(other, RunSpec) else other
