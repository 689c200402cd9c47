"""Which charts the report shows, and the sentence under each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sa3d.metrics import names as keys
from sa3d.report.comparison import TaskRow, arm_label, confusion, floors, percent
from sa3d.report.results import Experiment, History, Node, history
from sa3d.viz import charts, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sa3d.viz.style import Palette

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """A chart: for the page as SVG, for ``figures/`` as PNG."""

    key: str
    title: str
    caption: str
    svg: str
    png: bytes
    wide: bool = False
    phone: str = ""  # another drawing for narrow screens, where shrinking would not do


def chart(
    key: str, title: str, caption: str, make: Callable[[Palette], Figure], *, wide: bool = False
) -> Drawn:
    """Draw one chart for both uses; call inside ``style.context()``."""
    drawing = style.svg(make(style.THEMED), f"{title}. {caption}")
    return Drawn(key, title, caption, drawing, style.png(make(style.LIGHT)), wide)


def results_chart(experiment: Experiment, rows: Sequence[TaskRow]) -> Drawn | None:
    """Accuracies with intervals, all tasks and arms."""
    if not any(row.finished for row in rows):
        return None
    sections = [
        (
            row.title,
            [
                charts.Estimate(
                    cell.label,
                    cell.arm,
                    cell.accuracy,
                    cell.interval.low if cell.interval else None,
                    cell.interval.high if cell.interval else None,
                    cell.state,
                )
                for cell in row.cells
            ],
        )
        for row in rows
    ]
    marks = floors(experiment)
    caption = "Accuracy on the test clouds; bars are 95 % intervals."
    if marks:
        caption += " Dashed: " + "; ".join(f"{name}: {percent(v)}" for name, v in marks) + "."
    drawn = chart("results", "Test accuracy", caption,
                  lambda p: charts.estimates(sections, marks, p), wide=True)  # fmt: skip
    narrow = charts.estimates(sections, marks, style.THEMED, width=4.3)
    return replace(drawn, phone=style.svg(narrow, f"Test accuracy. {caption}"))


def training_charts(experiment: Experiment) -> list[Drawn]:
    """Losses, learning rate, curriculum and validation accuracy, as far as journals tell."""
    lines = {
        name: experiment.attempt(f"{name}: journal", partial(history, node)) or {}
        for name, node in experiment.nodes.items()
    }
    drawn = [
        _gc_chart(experiment, lines),
        _curriculum_chart(experiment, lines),
        _curve(
            experiment, lines, "feature_loss", "Feature loss", keys.FEATURE, ("method",), log=True,
            caption="Squared distance between the student's decoder features and the knowledge "
            "teacher's at masked patches, both normalised; before weighting.",
        ),
        _curve(
            experiment, lines, "point_loss", "Point loss", keys.POINT, ("method", "baseline"),
            log=True, caption=_point_caption(experiment),
        ),
        _curve(
            experiment, lines, "learning_rate", "Learning rate", keys.LR, ("method", "baseline"),
            caption="Of pre-training, as logged.",
        ),
        _curve(
            experiment, lines, "validation", "Validation accuracy while fine-tuning", keys.VAL_ACC,
            ("method", "baseline", "scratch"), task="classify", percent=True,
            caption="On clouds carved from the training split; it selects the epoch whose test "
            "accuracy is the headline.",
        ),
    ]  # fmt: skip
    return [item for item in drawn if item is not None]


def _point_caption(experiment: Experiment) -> str:
    text = "Chamfer distance (squared) of masked patches, before weighting."
    if experiment.decoded_by_teacher:
        text += (
            " The two lines are not comparable in height: the method's target is what the "
            "knowledge teacher decodes, the baseline's is the cloud itself."
        )
    return text


def _points(lines: History, key: str) -> tuple[Numbers, Numbers] | None:
    """Steps and values of a metric; None where there is no curve to draw."""
    pairs = [(step, value) for step, value in lines.get(key, []) if math.isfinite(value)]
    if len(pairs) < 2:
        return None
    steps, values = zip(*pairs, strict=True)
    return np.array(steps, dtype=np.float64), np.array(values, dtype=np.float64)


def _steps_per_epoch(experiment: Experiment, node: Node, lines: History) -> float | None:
    """Known only where the run went to its end: its last step is that of its last epoch."""
    stage = "baseline" if node.name == "pretrain-baseline" else node.task
    epochs = experiment.setting(f"{stage}.epochs")
    last = max((step for values in lines.values() for step, _ in values), default=0)
    return last / epochs if node.finished and isinstance(epochs, int) and last > 0 else None


def _curve(
    experiment: Experiment,
    lines: dict[str, History],
    key: str,
    title: str,
    metric: str,
    arms: Sequence[str],
    *,
    caption: str,
    task: str = "pretrain",
    line: tuple[str, float] | None = None,
    **options: Any,
) -> Drawn | None:
    series, rates = [], []
    for arm in arms:
        node = experiment.nodes.get(f"{task}-{arm}")
        found = _points(lines[node.name], metric) if node is not None else None
        if node is not None and found is not None:
            series.append(charts.Series(arm_label(experiment, arm), arm, *found))
            rates.append(_steps_per_epoch(experiment, node, lines[node.name]))
    if not series:
        return None
    x_label = "step"  # one axis for all: epochs only where every run tells its own
    known = [rate for rate in rates if rate is not None]
    if len(known) == len(series):
        series = [replace(s, x=s.x / rate) for s, rate in zip(series, known, strict=True)]
        x_label = "epoch"
    log = bool(options.pop("log", False)) and all((item.y > 0).all() for item in series)
    ends = ", ".join(f"{item.label} {_last(item.y, options)}" for item in series)
    if metric != keys.LR:
        caption += f" At the end: {ends}."
    return chart(
        key, title, caption,
        lambda p: charts.curves(series, p, x_label=x_label, line=line, log=log, **options),
    )  # fmt: skip


def _last(values: Numbers, options: dict[str, Any]) -> str:
    """The end of a curve: of a long noisy one the mean of its last twentieth."""
    tail = float(values[-1 if options.get("steps") else -max(1, len(values) // 20) :].mean())
    return percent(tail) if options.get("percent") else f"{tail:.3g}"


def _gc_chart(experiment: Experiment, lines: dict[str, History]) -> Drawn | None:
    relative = experiment.setting("pretrain.gc_loss", "relative") == "relative"
    caption = "How well the student ranks masked patches by how badly they are rebuilt."
    if relative:
        caption += " Guessing gives ln 2 = 0.693; lower is better."
    return _curve(
        experiment, lines, "ranking_loss", "Ranking loss of geometric complexity", keys.GC,
        ("method",), caption=caption,
        line=("ln 2: guessing", math.log(2)) if relative else None,
    )  # fmt: skip


def _curriculum_chart(experiment: Experiment, lines: dict[str, History]) -> Drawn | None:
    return _curve(
        experiment, lines, "curriculum", "Curriculum", keys.HARD, ("method",), steps=True,
        caption="Masked patches a cloud that are chosen for being predicted hardest; the rest "
        "of the mask is drawn at random.",
    )  # fmt: skip


def _confusions(experiment: Experiment) -> list[tuple[str, NDArray[np.int64], list[str]]]:
    """``(arm, matrix, class names)`` of every finished fine-tuning, the method's first."""
    found = []
    for arm in experiment.arms:
        node = experiment.nodes.get(f"classify-{arm}")
        if node is not None:
            pair = experiment.attempt(f"{node.name}: confusion", partial(confusion, node))
            if pair is not None:
                found.append((arm, *pair))
    return found


def confusion_chart(experiment: Experiment) -> Drawn | None:
    """Confusion of the method's fine-tuned classifier, else of the first one there is."""
    for arm, matrix, names in _confusions(experiment):
        off = matrix - np.diag(np.diag(matrix))
        caption = f"Fine-tuned, {arm_label(experiment, arm)}; {int(off.sum())} of "
        caption += f"{int(matrix.sum())} test clouds wrong."
        if (off == off.max()).sum() == 1:
            true, guess = np.unravel_index(int(off.argmax()), off.shape)
            caption += f" Most often: {names[true]} taken for {names[guess]} ({off.max()} times)."
        return chart("confusion", "Confusion", caption,
                     partial(charts.confusion, matrix, names),
                     wide=len(names) > charts.FEW)  # fmt: skip
    return None


def per_class_chart(experiment: Experiment) -> Drawn | None:
    """Accuracy of every class, an arm beside the other."""
    found = _confusions(experiment)
    if not found:
        return None
    _, first, names = found[0]
    counts = first.sum(axis=1)
    arms = [
        (arm_label(experiment, arm), arm, np.diag(matrix) / np.maximum(counts, 1))
        for arm, matrix, own in found
        if own == names and np.array_equal(matrix.sum(axis=1), counts)
    ]
    fewest = int(counts.min())
    caption = (
        "Fine-tuned; in brackets the number of test clouds. Few clouds a class make these "
        f"values coarse: the smallest class has {fewest}."
    )
    return chart("per_class", "Accuracy by class", caption,
                 partial(charts.per_class, names, arms, counts),
                 wide=len(names) > charts.FEW)  # fmt: skip
