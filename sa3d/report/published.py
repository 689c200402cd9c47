"""Published numbers beside ours: which belong together, how far apart they are, and a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sa3d import registry
from sa3d.config.base import flat
from sa3d.config.experiment import (
    CheckpointVariant,
    Evaluation,
    ExperimentConfig,
    ScratchVariant,
)
from sa3d.methods.settings import MethodConfig
from sa3d.published.band import Band, band
from sa3d.published.curves import summary
from sa3d.published.numbers import Facts, Goal, Log, Numbers, Published, Quantity, numbers
from sa3d.report.recipe import differences
from sa3d.report.results import Experiment, RunRecord
from sa3d.report.sections import Section, Variant, VariantRuns
from sa3d.report.wording import plural

SCRATCH = "scratch"  # the method of a variant that is not pre-trained, in numbers.yaml
TOLD = 6  # differences from a recipe that are written out
NO_VERDICT = "none"


@dataclass(frozen=True)
class Told:
    """A number and what it is.

    Attributes:
        name: what it is, or where it is from.
        text: the number.
        selected: whether it was selected on test.
        note: what to know of it.
    """

    name: str
    text: str
    selected: bool = False
    note: str = ""


@dataclass(frozen=True)
class PublishedRow:
    """A result of ours with what was published of it.

    Attributes:
        key, evaluation: of its section.
        variant: ours.
        quantity: what is measured.
        ours: our numbers, that which is compared first.
        values: single published numbers.
        logs: what official logs say.
        difference: ours minus the target, in points; empty: ours has no number.
        target: with what ours is compared.
        band: what counts as reproduced, and of what its width is made.
        verdict: ``within``, ``above``, ``below`` or ``none``.
        why: no verdict.
    """

    key: str
    evaluation: str
    variant: Variant
    quantity: str
    ours: tuple[Told, ...]
    values: tuple[Told, ...]
    logs: tuple[Told, ...]
    difference: str
    target: str
    band: str
    verdict: str
    why: str


@dataclass(frozen=True)
class PublishedTable:
    """All rows, and the sources that they name."""

    rows: tuple[PublishedRow, ...]
    sources: tuple[Told, ...]


def method_of(config: ExperimentConfig, variant: str) -> str:
    """The method of a variant as ``numbers.yaml`` calls it; empty: not known."""
    found = config.variants[variant]
    if isinstance(found, MethodConfig):
        return found.method
    if isinstance(found, CheckpointVariant) and found.published is not None:
        return numbers().pretrainings[found.published].method
    return SCRATCH if isinstance(found, ScratchVariant) else ""


def facts_of(config: ExperimentConfig, evaluation: Evaluation, variant: str) -> Facts:
    """By what an evaluation of a variant is matched with published results."""
    return Facts(
        method_of(config, variant),
        evaluation.model.backbone,
        evaluation.task,
        evaluation.data.name,
        evaluation.data.points,
        flat(evaluation.settings.model_dump(mode="json")),
    )


def pretraining_facts(config: ExperimentConfig, variant: str) -> Facts:
    """By what a pre-training is matched with published curves."""
    method = config.methods[variant]
    assert config.pretrain is not None, "a method has data"
    return Facts(
        method.method,
        config.model.backbone,
        registry.PRETRAIN,
        config.pretrain.data.name,
        config.pretrain.data.points,
        flat(method.model_dump(mode="json")),
    )


def nearest_goal(
    experiment: Experiment, evaluation: Evaluation, variant: str, result: Published
) -> tuple[Goal, list[str]]:
    """Of several recipes that were published, that with the fewest differences; and these."""
    found = [
        (goal, differences(experiment, evaluation, variant, goal, numbers()))
        for goal in result.goals
    ]
    return min(found, key=lambda pair: len(pair[1]))


def published(experiment: Experiment, sections: Sequence[Section]) -> PublishedTable | None:
    """The table; None where nothing was published of what this experiment evaluates."""
    known, rows = numbers(), []
    used: dict[str, None] = {}
    for section in sections:
        for each in section.variants:
            for result in known.of(
                facts_of(experiment.config, section.evaluation, each.variant.name)
            ):
                if not _has_numbers(each, known.quantities[result.quantity]):
                    continue
                rows.append(_row(experiment, section, each, result, known))
                sources = [v.source for v in result.values] + [v.source for v in result.logs]
                used |= dict.fromkeys(sources)
    if not rows:
        return None
    order = [name for name in known.sources if name in used]
    told = [
        Told(source.name, source.reference, source.selected_on_test, source.caveat)
        for source in (known.sources[name] for name in order)
    ]
    return PublishedTable(tuple(rows), tuple(told))


def _has_numbers(each: VariantRuns, quantity: Quantity) -> bool:
    """Whether there is anything of ours: votes are not asked for in every experiment."""
    return any(_values(each.runs, metric) for metric in quantity.ours.values())


def _row(
    experiment: Experiment, section: Section, each: VariantRuns, result: Published, known: Numbers
) -> PublishedRow:
    quantity = known.quantities[result.quantity]
    goal, differing = nearest_goal(experiment, section.evaluation, each.variant.name, result)
    found = band(known, result, goal)
    ours = _values(each.runs, quantity.metric)
    differing += _clouds(each.finished, result)
    verdict, why = NO_VERDICT, ""
    if differing:
        rest = len(differing) - TOLD
        why = f"Not the published recipe: {'; '.join(differing[:TOLD])}"
        why += f"; and {plural(rest, 'further difference')}." if rest > 0 else "."
    elif not ours:
        why = f"No run has {quantity.metric}."
    elif lacking := _lacking(each.runs, quantity.metric):
        why = f"{lacking}: the mean over the others is not over the published episodes."
    else:
        verdict = found.verdict(float(np.mean(ours)))
    kinds = sorted(quantity.ours, key=lambda kind: kind != quantity.compared)
    return PublishedRow(
        key=section.key,
        evaluation=section.name,
        variant=each.variant,
        quantity=quantity.title,
        ours=tuple(
            Told(kind if len(values) == 1 else f"{kind}, {len(values)} runs", mean_and_sd(values))
            for kind in kinds
            if (values := _values(each.runs, quantity.ours[kind]))
        ),
        values=tuple(
            Told(
                known.sources[value.source].name,
                _percent(value.share) + ("" if value.sd is None else f" ± {value.sd:g}"),
                known.selected(value),
                value.note,
            )
            for value in result.values
        ),
        logs=tuple(_log(log, known) for log in result.logs),
        difference=_points(float(np.mean(ours)) - found.target) if ours else "",
        target=found.named,
        band=band_words(found),
        verdict=verdict,
        why=why,
    )


def _clouds(runs: Sequence[RunRecord], result: Published) -> list[str]:
    """Whether our test split is the published one, as far as its size tells; a fold is a part."""
    counts = [run.data.get("test") for run in runs if run.spec and run.spec.fold is None]
    other = [count for count in counts if count not in (None, result.test_clouds)]
    told = [f"{count} test clouds instead of {result.test_clouds}" for count in other]
    return list(dict.fromkeys(told))


def _lacking(runs: Sequence[RunRecord], metric: str) -> str:
    """How many runs of folds have no number; empty: all have one, or there are no folds.

    Folds are of different difficulty, so a mean over some of them does not stand for all.
    """
    folds = [run for run in runs if run.spec and run.spec.fold is not None]
    lacking = [run for run in folds if not _values([run], metric)]
    return f"{len(lacking)} of {plural(len(folds), 'fold')} have no number" if lacking else ""


def _log(log: Log, known: Numbers) -> Told:
    found, source = summary(log), known.sources[log.source]
    place = f"{log.x} {found.best_at}"
    if found.last is None:
        text = f"mean {found.mean * 100:.2f} ± {found.sd * 100:.2f} over {found.tail} {log.x}s"
    else:
        text = f"last {_percent(found.last)}; last {found.tail} "
        text += f"{found.mean * 100:.2f} ± {found.sd * 100:.2f}"
    return Told(source.name, text, False, f"best {_percent(found.best)} ({place}), chosen on test")


def band_words(found: Band) -> str:
    """``83.32 to 86.23 (s.d.: last epochs 0.11, …)``."""
    parts = ", ".join(f"{name} {value * 100:.2f}" for name, value in found.parts.items())
    text = f"{_percent(found.low)} to {_percent(found.high)} (s.d.: {parts}"
    if found.gain:
        text += f"; down by {found.gain * 100:.2f} more, as the target was selected on test"
    return f"{text})"


def _values(runs: Sequence[RunRecord], metric: str) -> list[float]:
    """Possible values alone; the section of the evaluation says what is wrong with others."""
    found = [run.metrics[metric] for run in runs if run.finished and metric in run.metrics]
    return [value for value in found if 0.0 <= value <= 1.0]


def mean_and_sd(values: Sequence[float]) -> str:
    """``84.77 ± 0.11`` over several runs, of one run its value; in per cent, two digits."""
    text = _percent(float(np.mean(values)))
    return text if len(values) == 1 else f"{text} ± {float(np.std(values, ddof=1)) * 100:.2f}"


def _percent(share: float) -> str:
    return f"{share * 100:.2f}"


def _points(value: float) -> str:
    text = f"{abs(value) * 100:.2f}"
    return f"{'−' if value < 0 and float(text) else '+'}{text}"
