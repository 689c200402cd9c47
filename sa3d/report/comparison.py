"""The numbers of the report: computed once, shown by the page, the Markdown and the metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sa3d import registry
from sa3d.metrics import names as keys
from sa3d.report.results import SKIPPED, Experiment, Node, Outcomes, outcomes
from sa3d.report.stats import (
    Difference,
    Interval,
    grouped_bootstrap,
    newcombe,
    paired_bootstrap,
    wilson,
)

METHOD_NAMES = {"sa3d": "SA3D", "sa3df": "SA3DF", "mae": "MAE"}


@dataclass(frozen=True)
class Cell:
    """One task on one arm. ``accuracy`` is None unless the run finished."""

    arm: str
    label: str
    state: str  # "finished", "failed", "stopped", "skipped" or "absent"
    accuracy: float | None = None
    interval: Interval | None = None
    total: int | None = None
    choice: str = ""  # what selection arrived at: the C, the epoch
    extras: tuple[tuple[str, float], ...] = ()
    reason: str = ""
    run_id: str = ""
    url: str = ""
    outcomes: Outcomes | None = None


@dataclass(frozen=True)
class Comparison:
    """The method against another arm on the same test clouds."""

    first: str
    second: str
    second_arm: str
    difference: Difference

    @property
    def words(self) -> str:
        """One clause, as in `0.5 points above random masks, within noise (…)`."""
        d = self.difference
        where = "above" if d.value >= 0 else "below"
        size = f"{abs(d.value) * 100:.1f} points {where} {self.second}"
        if round(abs(d.value) * 100, 1) == 0.0:
            size = f"level with {self.second}"
        verdict = "more than noise" if d.clear else "within noise"
        span = f"{signed(d.interval.low)} to {signed(d.interval.high)}"
        return f"{size}: {verdict} (95 % interval {span})"


@dataclass(frozen=True)
class TaskRow:
    """One row of the results table."""

    task: str
    title: str
    how: str
    cells: tuple[Cell, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def finished(self) -> list[Cell]:
        """The cells that have a number."""
        return [cell for cell in self.cells if cell.accuracy is not None]

    @property
    def sentence(self) -> str:
        """What came out, in numbers, with what the numbers can and cannot tell."""
        if not self.finished:
            return f"{self.title}: no run finished, so there is nothing to compare."
        total = self.finished[0].total
        values = ", ".join(f"{cell.label} {percent(cell.accuracy)}" for cell in self.finished)
        text = f"{self.title}: {values}" + (f" of {total} test clouds." if total else ".")
        if self.comparisons:
            text += f" {self.comparisons[0].first} is " + "; ".join(
                comparison.words for comparison in self.comparisons
            )
            text += "."
        for cell in self.cells:
            if cell.accuracy is None:
                text += f" {cell.label[:1].upper()}{cell.label[1:]}: no number ({cell.state})."
        return text


@dataclass(frozen=True)
class Headline:
    """What the whole page says in two lines."""

    title: str
    verdict: str
    detail: str
    task: str = ""


def percent(value: float | None) -> str:
    """``78.4 %``."""
    return "—" if value is None else f"{value * 100:.1f} %"


def span(interval: Interval | None) -> str:
    """``73.2–82.8``, in per cent."""
    if interval is None:
        return ""
    return f"{interval.low * 100:.1f}–{interval.high * 100:.1f}"


def signed(value: float) -> str:
    """``+1.2`` or ``−0.4``, in points."""
    rounded = round(value * 100, 1)
    return f"{'−' if rounded < 0 else '+'}{abs(rounded):.1f}"


def arm_label(experiment: Experiment, arm: str) -> str:
    """How an arm is called on the page."""
    if arm == "scratch":
        return "from scratch"
    if arm == "baseline":
        return f"{experiment.setting('baseline.mask', 'random')} masks"
    method = str(experiment.setting("pretrain.method", "method"))
    return METHOD_NAMES.get(method, method)


def task_rows(experiment: Experiment) -> list[TaskRow]:
    """All rows of the results table, in the configured order of tasks."""
    return [_row(experiment, task) for task in experiment.tasks]


def _row(experiment: Experiment, task: str) -> TaskRow:
    cells = tuple(_cell(experiment, task, arm) for arm in experiment.arms)
    method = next((cell for cell in cells if cell.arm == "method"), None)
    comparisons = []
    if method is not None:
        for other in cells:
            difference = _difference(method, other) if other.arm != "method" else None
            if difference is not None:
                # an SVM on random weights: nothing but the SVM was trained
                scratch = "an untrained encoder" if task == "svm" else "training from scratch"
                name = scratch if other.arm == "scratch" else other.label
                comparisons.append(Comparison(method.label, name, other.arm, difference))
    known = registry.TASKS.get(task)  # results may tell of a task that has gone since
    title = known.title if known else task
    return TaskRow(task, title, _how(experiment, task), cells, tuple(comparisons))


def _how(experiment: Experiment, task: str) -> str:
    if task == "svm":
        folds = experiment.setting("svm.folds", "k")
        return f"C chosen by {folds}-fold cross-validation on the training split"
    if task == "classify":
        return "epoch chosen on the validation split"
    return ""


def _cell(experiment: Experiment, task: str, arm: str) -> Cell:
    label = arm_label(experiment, arm)
    node = experiment.nodes.get(f"{task}-{arm}")
    if node is None:
        return Cell(arm, label, "absent", reason="not part of this experiment")
    if not node.finished:
        state = "skipped" if node.status in SKIPPED else "failed"
        state = "stopped" if node.status == "stopped" else state
        reason = node.reason or f"status '{node.status}', no reason recorded"
        return Cell(arm, label, state, reason=reason, run_id=node.run_id, url=node.url)
    accuracy = node.metrics.get(keys.TEST_ACC, node.metrics.get(keys.TEST_VAL_SELECTED))
    if accuracy is None or not 0.0 <= accuracy <= 1.0:
        reason = f"finished, but {keys.TEST_ACC} is {accuracy}"
        return Cell(arm, label, "failed", reason=reason, run_id=node.run_id, url=node.url)
    kept = experiment.attempt(f"{node.name}: predictions", lambda: outcomes(node))
    if kept is not None and abs(float(kept.right.mean()) - accuracy) > 5e-4:
        experiment.problems.append(f"{node.name}: predictions.npz disagrees with the accuracy")
        kept = None
    total = _total(experiment, node, kept)
    return Cell(
        arm,
        label,
        "finished",
        accuracy=accuracy,
        interval=_interval(accuracy, total, kept),
        total=total,
        choice=_choice(experiment, node),
        extras=_extras(experiment, node),
        run_id=node.run_id,
        url=node.url,
        outcomes=kept,
    )


def _total(experiment: Experiment, node: Node, kept: Outcomes | None) -> int | None:
    """How many test clouds the accuracy is a share of."""
    if kept is not None:
        return len(kept.labels)
    matrix = confusion(node)
    if matrix is not None:
        return int(matrix[0].sum())
    for data in (node.result.get("data"), experiment.data):
        if isinstance(data, Mapping) and isinstance(data.get("test"), int):
            return int(data["test"])
    return None


def _interval(accuracy: float, total: int | None, kept: Outcomes | None) -> Interval | None:
    if kept is not None and by_family(kept):
        assert kept.group is not None
        return grouped_bootstrap(kept.right.astype(np.float64), kept.group)
    return wilson(accuracy * total, total) if total else None


def by_family(kept: Outcomes) -> bool:
    """Whether test clouds come in families of more than one."""
    return kept.group is not None and len(np.unique(kept.group)) < len(kept.group)


def _difference(first: Cell, second: Cell) -> Difference | None:
    if first.accuracy is None or second.accuracy is None or not first.total or not second.total:
        return None
    a, b = first.outcomes, second.outcomes
    if a is not None and b is not None and np.array_equal(a.index, b.index):
        if by_family(a):
            assert a.group is not None
            gap = a.right.astype(np.float64) - b.right.astype(np.float64)
            how = f"paired bootstrap over {len(np.unique(a.group))} families"
            return Difference(float(gap.mean()), grouped_bootstrap(gap, a.group), how)
        return paired_bootstrap(a.right, b.right)
    return newcombe(first.accuracy, second.accuracy, first.total, second.total)


def _choice(experiment: Experiment, node: Node) -> str:
    protocol = node.result.get("protocol")
    if not isinstance(protocol, Mapping):
        return ""
    if isinstance(protocol.get("c"), (int, float)):
        return f"C = {protocol['c']:g}"
    epoch = protocol.get("selected_epoch")
    return f"epoch {epoch} of {experiment.setting('classify.epochs', '?')}" if epoch else ""


def _extras(experiment: Experiment, node: Node) -> tuple[tuple[str, float], ...]:
    names = [
        (keys.TEST_LAST, "last epoch"),
        (keys.TEST_OFFICIAL_C, f"published C = {experiment.setting('svm.official_c', '?')}"),
        (keys.MEAN_CLASS_ACC, "mean over classes"),
        (keys.TEST_BEST, "best on test (selected on test; not an estimate)"),
    ]
    return tuple((label, node.metrics[key]) for key, label in names if key in node.metrics)


def confusion(node: Node) -> tuple[np.ndarray[Any, np.dtype[np.int64]], list[str]] | None:
    """Confusion matrix (T, T), rows are the true class, and the class names."""
    stored = node.result.get("confusion")
    if not isinstance(stored, Mapping) or not node.finished:
        return None
    matrix = np.asarray(stored["matrix"], dtype=np.int64)
    names = stored.get("class_names") or stored.get("classes") or range(len(matrix))
    return matrix, [str(name) for name in names]


def headline(experiment: Experiment, rows: Sequence[TaskRow]) -> Headline:
    """Title, verdict and the sentence with numbers.

    The verdict speaks of fine-tuning where it ran, else of the first task with numbers.
    """
    labels = [arm_label(experiment, arm) for arm in experiment.arms]
    data = experiment.data.get("name") or "unnamed data"
    backbone = experiment.setting("model.backbone")
    where = f" on {data}" + (f", {backbone}" if backbone else "")
    title = (" vs ".join(labels) or experiment.name) + where
    usable = [row for row in rows if row.finished]
    if not usable:
        return Headline(title, "No run finished: there is no result to report.", "")
    main = next((row for row in usable if row.task == "classify"), usable[0])
    others = [f"{row.title}: {_verdict(row)}" for row in usable if row is not main]
    detail = " ".join([main.sentence, *others, _scale(experiment, main)]).strip()
    return Headline(title, f"{main.title}: {_verdict(main)}", detail, main.task)


def _scale(experiment: Experiment, row: TaskRow) -> str:
    """What the accuracies are to be held against, and who stays below it."""
    marks = floors(experiment)
    if not marks:
        return ""
    text = "For scale: " + "; ".join(f"{name}: {percent(value)}" for name, value in marks)
    highest = max(value for _, value in marks)
    below = [cell.label for cell in row.finished if (cell.accuracy or 0.0) < highest]
    if len(below) == len(row.finished):
        return f"{text}. Not one of the arms reaches {percent(highest)}."
    return f"{text}." + (f" Below that: {', '.join(below)}." if below else "")


def _verdict(row: TaskRow) -> str:
    if not row.comparisons:
        return "too few runs finished to compare the method with anything."
    name = row.comparisons[0].first
    if not any(c.difference.clear for c in row.comparisons):
        others = " or ".join(c.second for c in row.comparisons)
        return f"no difference beyond noise between {name} and {others}."
    better = [c.second for c in row.comparisons if c.difference.clear and c.difference.value > 0]
    worse = [c.second for c in row.comparisons if c.difference.clear and c.difference.value < 0]
    level = [c.second for c in row.comparisons if not c.difference.clear]
    parts = [f"beats {' and '.join(better)}"] if better else []
    parts += [f"falls behind {' and '.join(worse)}"] if worse else []
    text = f"{name} {', but '.join(parts)}"
    if level:
        text += f"; against {' and '.join(level)} the difference is within noise"
    return f"{text}."


def floors(experiment: Experiment) -> list[tuple[str, float]]:
    """What needs no learning at all: chance and the descriptor 5-NN, where known."""
    data = experiment.data
    found = []
    classes = data.get("num_classes")
    if not isinstance(classes, int):
        names = data.get("class_names") or []
        classes = len(names) or next(
            (len(m[1]) for m in map(confusion, experiment.nodes.values()) if m is not None), 0
        )
    if classes:
        found.append((f"chance, 1 of {classes}", 1.0 / classes))
    floor = data.get("floor")
    if isinstance(floor, (int, float)):
        found.append(("5-NN on simple descriptors", float(floor)))
    return found


def metrics(experiment: Experiment, rows: Sequence[TaskRow]) -> dict[str, Any]:
    """Small nested numbers for ``dvc metrics``: shares in [0, 1]."""
    tree: dict[str, Any] = {}
    for row in rows:
        branch: dict[str, Any] = {}
        for cell in row.finished:
            leaf = {"acc": cell.accuracy}
            if cell.interval is not None:
                leaf |= {"low": cell.interval.low, "high": cell.interval.high}
            branch[cell.arm] = {key: round(value or 0.0, 5) for key, value in leaf.items()}
        for comparison in row.comparisons:
            gain = round(comparison.difference.value, 5)
            branch.setdefault("method", {})[f"minus_{comparison.second_arm}"] = gain
        if branch:
            tree[row.task] = branch
    finished = sum(node.finished for node in experiment.nodes.values())
    tree["nodes"] = {"finished": finished, "unfinished": len(experiment.nodes) - finished}
    return tree
