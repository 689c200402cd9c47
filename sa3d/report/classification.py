"""What fine-tuned classification shows beside its numbers; named in its task's ``figures``."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sa3d.metrics import names as keys
from sa3d.report.figures import Chart, Trained, chart, curve
from sa3d.report.sections import Section, Variant
from sa3d.report.wording import plural
from sa3d.viz import charts


class Confusion(NamedTuple):
    """Counts (T, T), rows are true classes, of all finished runs of a variant together."""

    variant: Variant
    counts: NDArray[np.int64]
    names: list[str]
    runs: int


def confusions(section: Section) -> list[Confusion]:
    """Of every variant that has one, the reference first."""
    found = []
    for each in section.variants:
        stored = [run.result.get("details", {}).get("confusion") for run in each.finished]
        tables = [table for table in stored if table]
        if not tables:
            continue
        names = [str(name) for name in tables[0]["class_names"]]
        counts = np.sum([np.asarray(table["matrix"], dtype=np.int64) for table in tables], axis=0)
        found.append(Confusion(each.variant, counts, names, len(tables)))
    return found


def validation_curves(section: Section) -> list[Chart]:
    """Validation accuracy over fine-tuning."""
    epochs = getattr(section.settings, "epochs", None)
    drawn = curve(
        f"{section.key}-validation",
        "Validation accuracy",
        "On the validation clouds, each family counting once; it chooses the epoch whose test "
        "accuracy is reported.",
        keys.VAL_ACC,
        [Trained(each.variant, each.runs, epochs) for each in section.variants],
        percentage=True,
        wide=True,
        size=charts.WHOLE,
    )
    return [] if drawn is None else [drawn]


def confusion_chart(section: Section) -> list[Chart]:
    """Confusion of the reference, else of the first variant that has one."""
    found = confusions(section)
    if not found:
        return []
    variant, counts, names, runs = found[0]
    wrong = counts - np.diag(np.diag(counts))
    caption = f"{variant.label}; {int(wrong.sum())} of {int(counts.sum())} test clouds wrong"
    caption += f", {plural(runs, 'run')} together." if runs > 1 else "."
    if wrong.any() and (wrong == wrong.max()).sum() == 1:
        true, guess = np.unravel_index(int(wrong.argmax()), wrong.shape)
        caption += f" Most often: {names[true]} taken for {names[guess]} ({wrong.max()} times)."
    make = partial(charts.confusion, counts, names)
    wide = len(names) > charts.FEW
    return [chart(f"{section.key}-confusion", "Confusion", caption, make, wide=wide)]


def per_class_chart(section: Section) -> list[Chart]:
    """Accuracy of every class, one variant beside the other."""
    found = confusions(section)
    if not found:
        return []
    names = found[0].names
    counts = found[0].counts.sum(axis=1) // found[0].runs
    shown = [
        (one.variant.label, one.variant.role, np.diag(one.counts) / np.maximum(total, 1))
        for one in found
        if one.names == names and (total := one.counts.sum(axis=1)) is not None
    ]
    caption = (
        "In brackets the number of test clouds. Few clouds in a class make its value coarse: the "
        f"smallest class has {int(counts.min())}."
    )
    make = partial(charts.per_class, names, shown, counts)
    wide = len(names) > charts.FEW
    return [chart(f"{section.key}-per_class", "Accuracy by class", caption, make, wide=wide)]
