"""What the evaluations of an encoder measured, read from MLflow.

A downstream run says by :data:`sa3d.tracking.keys.ENCODER` which weights it started from. Numbers
belong together only under the same conditions: data, protocol and point kernels.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING, Any

from sa3d import registry
from sa3d.config.base import flat
from sa3d.runs.spec import RunSpec
from sa3d.tracking import keys

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PAGE = 1000  # runs an answer


@dataclass(frozen=True)
class Conditions:
    """What must be the same for two numbers to be compared.

    Attributes:
        digest: of the data set's content.
        protocol: JSON of :meth:`sa3d.runs.config.RunConfig.protocol`.
        kernels: which point kernels ran.
    """

    digest: str
    protocol: str
    kernels: str

    def against(self, other: Conditions) -> str | None:
        """How these differ from ``other``, in a few words; None: they do not."""
        if self == other:
            return None
        if self.digest != other.digest:
            return f"on other data (digest {self.digest[:12]} here, {other.digest[:12]} there)"
        if self.protocol != other.protocol:
            ours, theirs = (flat(json.loads(each.protocol)) for each in (self, other))
            names = sorted(k for k in {**ours, **theirs} if ours.get(k) != theirs.get(k))
            parts = [f"{key}={ours.get(key)} here, {theirs.get(key)} there" for key in names[:3]]
            return f"by another protocol ({'; '.join(parts)})"
        return f"with other point kernels ({self.kernels} here, {other.kernels} there)"


@dataclass(frozen=True)
class Evaluated:
    """Every run of one evaluation on one encoder under the same conditions.

    Attributes:
        name: of the evaluation: ``svm-shapes``.
        task: its task.
        data: its data set.
        conditions: under which it was run.
        newest: when its newest run began, in milliseconds.
        code: digests of the code of its runs.
        runs: ids of the finished runs that its values are from.
        values: the number that the task's runs are compared by, the mean over folds, by seed; only
            of seeds that are complete.
        missing: what was begun and has not finished, in words.
    """

    name: str
    task: str
    data: str
    conditions: Conditions
    newest: int
    code: frozenset[str]
    runs: tuple[str, ...]
    values: Mapping[int, float]
    missing: tuple[str, ...]

    @property
    def metric(self) -> str:
        """Name of the number."""
        return registry.task(self.task).metric.name

    @cached_property
    def mean(self) -> float:
        """Over seeds. There is one at least."""
        return fmean(self.values.values())


def evaluations(opened: MlflowClient, sha256: str) -> dict[str, list[Evaluated]]:
    """The evaluations of an encoder by name, each as often as it was run under other conditions,
    newest first.

    Args:
        opened: of the store.
        sha256: of the encoder's exported weights.
    """
    groups: dict[tuple[str, Conditions], list[Run]] = {}
    for run in _runs(opened, sha256):
        tags = run.data.tags
        name = RunSpec(
            tags["task"], tags["variant"], tags["data"], 0, label=tags.get("label", "")
        ).evaluation
        conditions = Conditions(
            tags[keys.DATA], tags[keys.PROTOCOL], tags.get(keys.KERNELS, "unknown")
        )
        groups.setdefault((name, conditions), []).append(run)
    found: dict[str, list[Evaluated]] = {}
    for (name, conditions), runs in groups.items():
        found.setdefault(name, []).append(_evaluated(name, conditions, runs))
    return found


def _runs(opened: MlflowClient, sha256: str) -> Iterator[Run]:
    """Every downstream run of an encoder, newest first."""
    named = (opened.get_experiment_by_name(f"sa3d/{task}") for task in registry.downstream())
    ids = [str(each.experiment_id) for each in named if each is not None]
    token = None
    while ids:
        page = opened.search_runs(
            ids,
            f"tags.`{keys.ENCODER}` = '{sha256}'",
            order_by=["attributes.start_time DESC"],
            max_results=_PAGE,
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def _evaluated(name: str, conditions: Conditions, runs: list[Run]) -> Evaluated:
    """One entry out of its runs, which are sorted newest first."""
    tags = runs[0].data.tags
    task = registry.task(tags["task"])
    settings: Any = task.settings.model_validate(json.loads(conditions.protocol)["settings"])
    folds = task.fold_numbers(settings)
    values: dict[int, float] = {}
    missing, used = [], []
    by_place: dict[tuple[int, int | None], list[Run]] = {}
    for run in runs:
        fold = run.data.tags.get("fold")
        place = int(run.data.tags["seed"]), None if fold is None else int(fold)
        by_place.setdefault(place, []).append(run)
    for seed in sorted({seed for seed, _ in by_place}):
        chosen = [_newest(by_place.get((seed, fold), []), task.metric.name) for fold in folds]
        done = [run for run in chosen if run is not None]
        if len(done) == len(folds):
            values[seed] = fmean(run.data.metrics[task.metric.name] for run in done)
            used += done
        else:
            states = {run.info.status for fold in folds for run in by_place.get((seed, fold), [])}
            how = "" if len(folds) == 1 else f" {len(done)} of {len(folds)} folds;"
            missing.append(f"seed {seed}:{how} {', '.join(sorted(states))}")
    return Evaluated(
        name=name,
        task=tags["task"],
        data=tags["data"],
        conditions=conditions,
        newest=max(run.info.start_time for run in runs),
        code=frozenset(run.data.tags.get(keys.CODE, "") for run in used) - {""},
        runs=tuple(run.info.run_id for run in used),
        values=values,
        missing=tuple(missing),
    )


def _newest(runs: list[Run], metric: str) -> Run | None:
    """The newest finished run with the number, of runs sorted newest first."""
    finished = (r for r in runs if r.info.status == "FINISHED" and metric in r.data.metrics)
    return next(finished, None)
