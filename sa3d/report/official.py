"""Official curves: which stand behind ours, and charts of evaluations that show both."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from sa3d.config.experiment import CheckpointVariant, ExperimentConfig
from sa3d.methods.settings import MethodConfig
from sa3d.published.curves import curve as log_curve
from sa3d.published.curves import pretraining
from sa3d.published.numbers import Log, Published, Quantity, numbers
from sa3d.report.figures import Chart, Official, Trained, behind, chart, cropped, curve
from sa3d.report.published import facts_of, nearest_goal, pretraining_facts
from sa3d.report.results import Experiment
from sa3d.report.sections import Section, VariantRuns
from sa3d.report.wording import listed
from sa3d.viz import charts


def of_pretraining(config: ExperimentConfig, metric: str) -> list[Official]:
    """The official curves of a metric, of the methods that the experiment pre-trains with."""
    known, found = numbers(), {}
    for variant in config.methods:
        facts = pretraining_facts(config, variant)
        for each in known.pretraining_curves:
            if each.metric == metric and each.match.fits(facts):
                source = known.sources[each.source]
                x, y = pretraining(each)
                words = f"{source.name} ({source.reference}), {len(x)} epochs"
                found[each.file, each.columns] = Official(source.name, words, x, y)
    return list(found.values())


def charts_of(experiment: Experiment, section: Section) -> list[Chart]:
    """Ours over the official logs, a chart a quantity; none where there is no log."""
    known = numbers()
    logs: dict[str, dict[Log, None]] = {}
    ours: dict[str, list[tuple[VariantRuns, Published]]] = {}
    for each in section.variants:
        for result in known.of(facts_of(experiment.config, section.evaluation, each.variant.name)):
            if result.logs and known.quantities[result.quantity].drawn is not None:
                logs.setdefault(result.quantity, {}).update(dict.fromkeys(result.logs))
                ours.setdefault(result.quantity, []).append((each, result))
    drawn = []
    for name, found in logs.items():
        quantity = known.quantities[name]
        official = [_official(log) for log in found]
        same = _recipes(experiment, section, ours[name])
        # the variants without a log of their own are drawn too: they were trained alike
        made = _chart(experiment.config, section, f"{section.key}-official-{name}", quantity,
                      official, same)  # fmt: skip
        drawn += [] if made is None else [made]
    return drawn


def _official(log: Log) -> Official:
    source = numbers().sources[log.source]
    x, y = log_curve(log)
    words = f"{source.name} ({log.run or source.reference})"
    return Official(source.name, words, x, y, loose=log.x == "vote")


def _recipes(
    experiment: Experiment, section: Section, ours: Iterable[tuple[VariantRuns, Published]]
) -> str:
    other = [
        each.variant.label
        for each, result in ours
        if nearest_goal(experiment, section.evaluation, each.variant.name, result)[1]
    ]
    if not other:
        return ""
    return f" Not trained by the published recipe: {listed(other)} (see the published numbers)."


def _chart(
    config: ExperimentConfig,
    section: Section,
    key: str,
    quantity: Quantity,
    official: Sequence[Official],
    recipes: str,
) -> Chart | None:
    assert quantity.drawn is not None, "only quantities that are drawn come here"
    title = f"{quantity.title[:1].upper()}{quantity.title[1:]}, ours and official"
    if quantity.drawn.how == "by-epoch":
        return _by_epoch(section, key, title, quantity, official, recipes)
    ours, axis = _points(config, section, quantity, official), "vote"
    caption = "Lines: our mean of votes, by variant."
    if quantity.drawn.how == "end":
        axis = "epoch of pre-training"
        caption = "Dots: ours after the last epoch of pre-training."
    if not ours:
        return None
    theirs, words = behind(official)
    series = ours + theirs
    floor, cut = cropped(series)
    return chart(
        key,
        title,
        f"{caption} {words}{recipes}{cut}",
        lambda palette: charts.curves(
            series, palette, x_label=axis, percent=True, floor=floor, size=charts.WHOLE
        ),
        wide=True,
    )


def _by_epoch(
    section: Section,
    key: str,
    title: str,
    quantity: Quantity,
    official: Sequence[Official],
    recipes: str,
) -> Chart | None:
    """The test split by epoch where our runs read it; else what they read instead."""
    assert quantity.drawn is not None
    epochs = getattr(section.settings, "epochs", None)
    trained = [Trained(each.variant, each.runs, epochs) for each in section.variants]
    for what, metric in quantity.drawn.journal.items():
        caption = f"Ours: {what}, by epoch.{recipes}"
        if what != next(iter(quantity.drawn.journal)):
            caption = f"Ours is of the {what}, as the test split is not read each epoch; the "
            caption += f"official one is of the test split.{recipes}"
        made = curve(key, title, caption, metric, trained, percentage=True, official=official,
                     wide=True, crop=True, size=charts.WHOLE)  # fmt: skip
        if made is not None:
            return made
    return None


def _points(
    config: ExperimentConfig, section: Section, quantity: Quantity, official: Sequence[Official]
) -> list[charts.Series]:
    """The compared number of every variant: at the end of pre-training, or across all votes."""
    assert quantity.drawn is not None
    found = []
    for each in section.variants:
        values = [run.metrics.get(quantity.metric, math.nan) for run in each.finished]
        values = [value for value in values if math.isfinite(value)]
        place = np.array([official[0].x[0], official[0].x[-1]])
        if quantity.drawn.how == "end":
            epochs = trained_for(config, each.variant.name)
            if epochs is None:
                continue
            place = np.array([epochs])
        if not values:
            continue
        height = np.full(len(place), float(np.mean(values)))
        found.append(charts.Series(each.variant.label, each.variant.role, place, height))
    return found


def trained_for(config: ExperimentConfig, name: str) -> float | None:
    """Epochs of pre-training behind a variant; 0: it has none. None: they are not known."""
    variant = config.variants[name]
    if isinstance(variant, CheckpointVariant):
        if variant.published is None:
            return None
        return float(numbers().pretrainings[variant.published].settings["epochs"])
    return float(variant.epochs) if isinstance(variant, MethodConfig) else 0.0
