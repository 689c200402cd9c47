"""The evaluations of an experiment, each a section of the report.

A :class:`Section` is also what the figures of a task get: the functions that ``Task.figures``
names take one and return a list of :class:`sa3d.report.figures.Chart`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from sa3d import registry
from sa3d.config.base import Frozen
from sa3d.config.experiment import (
    CheckpointVariant,
    Evaluation,
    ExperimentConfig,
    ScratchVariant,
)
from sa3d.methods.settings import MethodConfig
from sa3d.metrics.intervals import Difference, Estimate
from sa3d.report import comparison
from sa3d.report.results import Experiment, Outcomes, RunRecord
from sa3d.report.wording import listed, number, percent, signed, size
from sa3d.tasks.base import Metric, Task
from sa3d.viz import style

LEVEL = 0.0005  # a share: closer than that both would be printed alike


@dataclass(frozen=True)
class Variant:
    """A way to an encoder, as the report shows it.

    Attributes:
        name: as in the settings.
        label: for people, such as ``MAE (random-masks)``.
        role: its colour in :class:`sa3d.viz.style.Palette`.
        reference: whether the others are compared with it.
        untrained: whether its encoder has random weights.
    """

    name: str
    label: str
    role: str
    reference: bool
    untrained: bool


@dataclass(frozen=True)
class VariantRuns:
    """What one variant did in one evaluation.

    Attributes:
        variant: which.
        runs: all that were planned, finished or not.
        estimate: of the metric, over the runs with a number; None: there are none.
    """

    variant: Variant
    runs: tuple[RunRecord, ...]
    estimate: Estimate | None

    @property
    def finished(self) -> list[RunRecord]:
        """The runs that ended well."""
        return [run for run in self.runs if run.finished]

    @property
    def state(self) -> str:
        """Of a variant without a number."""
        states = list(dict.fromkeys(run.state for run in self.runs))
        return "absent" if not states else " and ".join(states)


@dataclass(frozen=True)
class Comparison:
    """The reference against another variant: ``difference`` is the first minus the second."""

    first: Variant
    second: Variant
    named: str  # the second in a sentence
    difference: Difference
    metric: Metric

    @property
    def better(self) -> bool:
        """Whether the reference has the better mean."""
        return (self.difference.value > 0) == self.metric.higher_is_better

    @property
    def verdict(self) -> str:
        """``better`` or ``worse``: of the reference, beyond noise; ``unclear``: within noise;
        ``unknown``: there is no interval that could tell."""
        if self.difference.interval is None:
            return "unknown"
        if not self.difference.clear:
            return "unclear"
        return "better" if self.better else "worse"

    @property
    def words(self) -> str:
        """One clause: `0.5 points better than training from scratch, within noise (…)`."""
        found = self.difference
        where = f"{'better' if self.better else 'worse'} than"
        text = f"{size(found.value, self.metric)} {where} {self.named}"
        if found.value == 0 or (self.metric.share and abs(found.value) < LEVEL):
            text = f"level with {self.named}"
        if found.interval is None:
            return f"{text}, {found.how}"
        verdict = "more than noise" if found.clear else "within noise"
        low, high = (signed(end, self.metric) for end in found.interval)
        lower = "" if self.metric.higher_is_better else "; negative is better"
        return f"{text}, {verdict} (95 % interval {low} to {high}{lower})"


@dataclass(frozen=True)
class Section:
    """One evaluation with everything that is known of it.

    Attributes:
        key: part of file names and anchors, unique in the report.
        evaluation: task, data, label, backbone, settings, seeds.
        task: what the task says of itself.
        variants: in the order of the settings, the reference first.
        comparisons: of the reference with every other variant that has a number.
    """

    key: str
    evaluation: Evaluation
    task: Task
    variants: tuple[VariantRuns, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def name(self) -> str:
        """``task-label-data``."""
        return self.evaluation.name

    @property
    def settings(self) -> Frozen:
        """Of the task."""
        return self.evaluation.settings

    @property
    def metric(self) -> Metric:
        """What is compared."""
        return self.task.metric

    @property
    def title(self) -> str:
        """``Linear SVM on frozen features: shapes``."""
        label = f", {self.evaluation.label}" if self.evaluation.label else ""
        return f"{self.task.title}: {self.evaluation.data.name}{label}"

    @property
    def how(self) -> str:
        """One sentence on how the numbers come about, if the task gives one."""
        return self.task.how(self.settings) if self.task.how is not None else ""

    @property
    def runs(self) -> list[RunRecord]:
        """Of all variants."""
        return [run for each in self.variants for run in each.runs]

    @property
    def with_numbers(self) -> list[VariantRuns]:
        """The variants that have a number."""
        return [each for each in self.variants if each.estimate is not None]

    def compared(self, variant: Variant) -> Comparison | None:
        """The reference against ``variant``."""
        return next((c for c in self.comparisons if c.second == variant), None)

    @property
    def floors(self) -> list[tuple[str, float]]:
        """What needs no learning at all, where it can be held against the metric."""
        if not self.metric.accuracy:
            return []
        facts = [run.data for run in self.runs if run.data]
        classes = next((f["num_classes"] for f in facts if f.get("num_classes")), None)
        floor = next((f["floor"] for f in facts if f.get("floor") is not None), None)
        found = []
        if isinstance(classes, int):
            found.append((f"chance, 1 of {classes}", 1.0 / classes))
        if isinstance(floor, (int, float)):
            found.append(("5-NN on simple descriptors", float(floor)))
        return found

    @property
    def below_floor(self) -> list[Variant]:
        """The variants that do not reach what needs no learning."""
        highest = max((value for _, value in self.floors), default=-math.inf)
        return [e.variant for e in self.with_numbers if e.estimate and e.estimate.mean < highest]

    @property
    def scale(self) -> str:
        """What the numbers are to be held against, and who stays below it; empty: nothing."""
        if not self.floors:
            return ""
        text = "; ".join(f"{name}: {percent(value)}" for name, value in self.floors)
        below = [variant.label for variant in self.below_floor]
        rest = f" Below the highest of these: {listed(below)}." if below else ""
        return f"For scale: {text}.{rest}"

    @property
    def sentence(self) -> str:
        """What came out, in numbers."""
        if not self.with_numbers:
            return "No run has a number, so there is nothing to compare."
        values = [
            f"{each.variant.label} {number(each.estimate.mean, self.metric)}"
            for each in self.with_numbers
            if each.estimate is not None
        ]
        text = f"{listed(values)}."
        if self.comparisons:
            clauses = "; ".join(each.words for each in self.comparisons)
            text += f" {self.comparisons[0].first.label} is {clauses}."
        return text


def variants_of(config: ExperimentConfig) -> dict[str, Variant]:
    """All variants, the reference first."""
    titles = {n: v.title for n, v in config.variants.items() if isinstance(v, MethodConfig)}
    untrained = [n for n, v in config.variants.items() if isinstance(v, ScratchVariant)]
    roles = style.variant_roles(list(config.variants), config.reference, untrained)

    def label(name: str) -> str:
        variant = config.variants[name]
        if isinstance(variant, CheckpointVariant):
            return f"{name} (checkpoint)"
        if isinstance(variant, ScratchVariant):
            return f"{name} (random weights)"
        title = titles[name] or variant.method
        # a name that only repeats the title says no more
        alone = title.lower() == name.lower() and list(titles.values()).count(title) == 1
        return title if alone else f"{title} ({name})"

    order = [config.reference, *(name for name in config.variants if name != config.reference)]
    return {
        name: Variant(name, label(name), roles[name], name == config.reference, name in untrained)
        for name in order
    }


def sections_of(experiment: Experiment) -> list[Section]:
    """One section an evaluation, in the order of the settings."""
    variants = variants_of(experiment.config)
    found: list[Section] = []
    for evaluation in experiment.config.evaluate:
        key = re.sub(r"[^A-Za-z0-9._-]+", "_", evaluation.name)
        if key in {section.key for section in found}:
            key = f"{key}-{len(found)}"
        found.append(_section(experiment, evaluation, key, variants))
    known = {section.name for section in found}
    for run in experiment.runs.values():
        if run.kind == "evaluate" and run.spec is not None and run.spec.evaluation not in known:
            experiment.problems.append(f"{run.name}: it belongs to no evaluation of the settings")
    return found


def _section(
    experiment: Experiment, evaluation: Evaluation, key: str, variants: dict[str, Variant]
) -> Section:
    task = registry.task(evaluation.task)
    runs = experiment.evaluation(evaluation.name)
    rows = tuple(
        _variant_runs(experiment, variant, runs, task)
        for name, variant in variants.items()
        if name in evaluation.variants
    )
    reference = next((row for row in rows if row.variant.reference), None)
    found = []
    for row in rows:
        if reference is None or row is reference or None in (reference.estimate, row.estimate):
            continue
        first, second = (_numbered(each, task.metric) for each in (reference, row))
        difference = experiment.attempt(
            f"{evaluation.name}: {reference.variant.name} against {row.variant.name}",
            partial(comparison.difference, first, second, task.metric, task.folds),
        )
        if difference is not None:
            named = task.untrained if row.variant.untrained else row.variant.label
            found.append(Comparison(reference.variant, row.variant, named, difference, task.metric))
    return Section(key, evaluation, task, rows, tuple(found))


def _variant_runs(
    experiment: Experiment, variant: Variant, runs: Sequence[RunRecord], task: Task
) -> VariantRuns:
    metric = task.metric
    own = [run for run in runs if run.spec is not None and run.spec.variant == variant.name]
    for place, run in enumerate(own):
        value = run.value(metric)
        if run.finished and value is None:
            stored = run.metrics.get(metric.name, "missing")
            experiment.problems.append(f"{run.name}: finished, but {metric.name} is {stored}")
        elif value is not None and run.outcomes is not None:
            wrong = _misfit(run.outcomes, value, metric)
            if wrong:
                experiment.problems.append(f"{run.name}: {wrong}; its outcomes are not used")
                own[place] = replace(run, outcomes=None)
    made = VariantRuns(variant, tuple(own), None)
    numbered = _numbered(made, metric)
    if not numbered:
        return made
    estimate = experiment.attempt(
        f"{variant.name}: interval of {metric.name}",
        partial(comparison.estimate, numbered, metric, task.folds),
    )
    return replace(made, estimate=estimate)


def _misfit(outcomes: Outcomes, value: float, metric: Metric) -> str:
    """Why scores cannot stand for the metric; empty: they can."""
    low, high = float(outcomes.score.min()), float(outcomes.score.max())
    if metric.share and not 0.0 <= low <= high <= 1.0:
        return f"scores of single test clouds from {low:.5g} to {high:.5g}, not within 0 and 1"
    mean = float(outcomes.score.mean())
    if not math.isclose(mean, value, rel_tol=1e-3, abs_tol=LEVEL if metric.share else 0.0):
        return f"the mean over single test clouds is {mean:.5g}, {metric.name} is {value:.5g}"
    return ""


def _numbered(row: VariantRuns, metric: Metric) -> list[RunRecord]:
    return [run for run in row.runs if run.value(metric) is not None]
