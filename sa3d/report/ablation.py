"""The report of an ablation: every combination of settings in one table, and a chart a task."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sa3d.errors import DataError
from sa3d.report import figures
from sa3d.report.rendering import as_json, render
from sa3d.report.wording import listed, number, percent
from sa3d.tasks.base import Metric
from sa3d.utils.files import unread, write_whole
from sa3d.utils.progress import duration
from sa3d.viz import charts, grid, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sa3d.viz.style import Palette

FORMAT: Final = 1  # of ablation.json
NONE: Final = "—"


@dataclass(frozen=True)
class Measured:
    """What the runs of one cell say by one evaluation; ``mean`` is None where none finished."""

    mean: float | None
    sd: float | None
    runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Measured:
        """Mean, and the sample standard deviation of several."""
        return cls(
            statistics.fmean(values) if values else None,
            statistics.stdev(values) if len(values) > 1 else None,
            len(values),
        )


@dataclass(frozen=True)
class Row:
    """One combination.

    Attributes:
        name: of the experiment that it is.
        values: of the settings that vary.
        measured: by evaluation.
        done: how many of its runs finished, as text.
    """

    name: str
    values: Mapping[str, Any]
    measured: Mapping[str, Measured]
    done: str


@dataclass(frozen=True)
class Ablation:
    """What ``ablation.json`` tells."""

    name: str
    axes: Sequence[str]
    metrics: Mapping[str, Metric]
    rows: Sequence[Row]
    facts: Mapping[str, Any]

    def best(self, evaluation: str) -> list[Row]:
        """The combinations with the best mean; none where no run finished."""
        means = [mean for row in self.rows if (mean := row.measured[evaluation].mean) is not None]
        if not means:
            return []
        best = max(means) if self.metrics[evaluation].higher_is_better else min(means)
        return [row for row in self.rows if row.measured[evaluation].mean == best]

    def label(self, row: Row, without: str = "") -> str:
        """``mask_ratio=0.5, mask=gc``: what the combination is."""
        return ", ".join(f"{k}={_text(v)}" for k, v in row.values.items() if k != without)


def write_ablation(source: Path, out: Path) -> Path:
    """Write ``report.html``, ``report.md``, ``metrics.json`` and figures of ``ablation.json``.

    Returns:
        ``report.html``, which is written last.

    Raises:
        DataError: ``source`` cannot be read. WriteError: the folder cannot be written.
    """
    found = read(source)
    with style.context():
        drawn = [chart for name in found.metrics if (chart := _chart(found, name)) is not None]
    context = {
        "ablation": found,
        "charts": drawn,
        "header": [*found.axes, *(f"{n}: {m.label}" for n, m in found.metrics.items()), "runs"],
        "lines": [_line(found, row) for row in found.rows],
        "verdict": _verdict(found),
        "origin": _origin(found),
        "palettes": {"light": vars(style.LIGHT), "dark": vars(style.DARK)},
    }
    files = {f"figures/{each.key}.png": each.png for each in drawn}
    files["metrics.json"] = as_json(_metrics(found))
    files["report.md"] = render("ablation.md.j2", context)
    files["report.html"] = render("ablation.html.j2", context)
    for name, content in files.items():
        write_whole(out / name, content)
    return out / "report.html"


def read(source: Path) -> Ablation:
    """What ``ablation.json`` says.

    Raises:
        DataError: it is missing, or says something else.
    """
    try:
        tree = json.loads(source.read_text(encoding="utf-8"))
        if tree["format"] != FORMAT:
            raise DataError(
                f"{source} has format {tree['format']}, this version reads {FORMAT}; run the "
                "ablation again"
            )
        metrics = {
            name: Metric(name, each["label"], each["share"], each["higher_is_better"])
            for name, each in tree["evaluations"].items()
        }
        rows = [
            Row(
                cell["name"],
                cell["values"],
                {name: Measured.of(cell["values_of"].get(name, [])) for name in metrics},
                f"{cell['finished']} of {cell['runs']}",
            )
            for cell in tree["cells"]
        ]
        return Ablation(tree["name"], tree["axes"], metrics, rows, tree)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if (why := unread(error)) is not None and not isinstance(error, FileNotFoundError):
            raise DataError(f"{source} {why}") from None
        raise DataError(
            f"{source} is not what an ablation leaves ({type(error).__name__}: {error}); run the "
            "ablation again"
        ) from None


def _line(found: Ablation, row: Row) -> list[tuple[str, bool]]:
    """The cells of a line of the table; whether each is the best of its column."""
    values = [(_text(row.values.get(axis)), False) for axis in found.axes]
    for name, metric in found.metrics.items():
        values.append((_shown(row.measured[name], metric), row in found.best(name)))
    return [*values, (row.done, False)]


def _shown(measured: Measured, metric: Metric) -> str:
    if measured.mean is None:
        return NONE
    text = number(measured.mean, metric)
    if measured.sd is not None:
        spread = f"{measured.sd * 100:.1f} %" if metric.share else f"{measured.sd:.2g}"
        text += f" ± {spread} ({measured.runs} runs)"
    return text


def _verdict(found: Ablation) -> list[str]:
    """A sentence for each evaluation: where the best mean is."""
    said = []
    for name, metric in found.metrics.items():
        best = found.best(name)
        if not best:
            said.append(f"{name}: no run finished.")
            continue
        measured = best[0].measured[name]
        few = " One run each: no spread is known." if measured.runs == 1 else ""
        assert measured.mean is not None
        value = number(measured.mean, metric)
        where = listed([found.label(row) for row in best], "and with")
        said.append(f"{name}: best {metric.label} {value} with {where}.{few}")
    return said


def _chart(found: Ablation, evaluation: str) -> figures.Chart | None:
    """Means over the axis with the most numbers; without one, a dot a combination."""
    metric = found.metrics[evaluation]
    rows = [row for row in found.rows if row.measured[evaluation].mean is not None]
    if not rows:
        return None
    tick = percent if metric.share else "{:.4g}".format
    key = re.sub(r"[^a-z0-9]+", "-", f"{evaluation}".lower()).strip("-")
    title = f"{evaluation}: {metric.label}"
    across = _across(found)
    if across is None:
        dots = [_dot(found, row, evaluation) for row in rows]
        limits = (0.0, 1.0) if metric.share else (float("-inf"), float("inf"))

        def beside(palette: Palette) -> Figure:
            show = partial(number, metric=metric)
            return charts.dots(dots, [], palette, show=show, tick=tick, limits=limits)

        caption = "Means; bars are one standard deviation over runs."
        return figures.chart(key, title, caption, beside, wide=True)
    by_line: dict[str, list[grid.Point]] = {}
    for row in sorted(rows, key=lambda row: float(row.values.get(across, 0))):
        measured = row.measured[evaluation]
        if across not in row.values or measured.mean is None:
            continue
        point = grid.Point(float(row.values[across]), measured.mean, measured.sd)
        by_line.setdefault(found.label(row, without=across), []).append(point)
    caption = f"Means over {across}; bars are one standard deviation over runs."
    left_out = sum(across not in row.values for row in rows)
    if left_out:
        caption += f" {left_out} combination(s) without {across} stand in the table alone."
    return figures.chart(
        key, title, caption,
        lambda palette: grid.lines(list(by_line.items()), palette, across=across, tick=tick),
        wide=True,
    )  # fmt: skip


def _dot(found: Ablation, row: Row, evaluation: str) -> charts.Dot:
    measured, label = row.measured[evaluation], found.label(row)
    if measured.mean is None or measured.sd is None:
        return charts.Dot(label, style.VARIANTS[0], measured.mean)
    low, high = measured.mean - measured.sd, measured.mean + measured.sd
    return charts.Dot(label, style.VARIANTS[0], measured.mean, low, high)


def _across(found: Ablation) -> str | None:
    """The setting with the most different numbers; of several the first."""
    counts = {
        axis: len({row.values[axis] for row in found.rows if axis in row.values})
        for axis in found.axes
        if all(_is_number(row.values[axis]) for row in found.rows if axis in row.values)
    }
    best = max(counts.values(), default=0)
    if best < 2:
        return None
    return next(axis for axis, count in counts.items() if count == best)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _origin(found: Ablation) -> list[tuple[str, str]]:
    """How to have it again, and what it took."""
    facts = found.facts
    said = [("command", str(facts.get("command", "")))]
    seconds = facts.get("compute_seconds")
    if isinstance(seconds, (int, float)):
        said.append(("computing time", duration(float(seconds))))
    said.append(("runs found done", str(len(facts.get("reused", [])))))
    return said


def _metrics(found: Ablation) -> dict[str, Any]:
    return {
        row.name: {
            name: {"mean": each.mean, "sd": each.sd, "runs": each.runs}
            for name, each in row.measured.items()
        }
        for row in found.rows
    }


def _text(value: Any) -> str:
    if value is None:
        return NONE
    return value if isinstance(value, str) else json.dumps(value)
