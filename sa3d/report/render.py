"""Putting the report together and on the disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sa3d import registry
from sa3d.report import figures, official, pictures, pretraining, provenance, published, tables
from sa3d.report.headline import headline
from sa3d.report.rendering import as_json, render
from sa3d.report.results import Experiment, read_experiment
from sa3d.report.sections import Section, sections_of, variants_of
from sa3d.report.tables import metric_label
from sa3d.utils.files import write_whole
from sa3d.viz import clouds, style

PAGE = 950.0  # pixels that two charts beside each other share, without what frames them
AROUND = 160.0  # pixels of a chart's title, caption and frame
WIDEST = 0.54  # share of the page for the wider of two columns


@dataclass(frozen=True)
class Shown:
    """A section with everything that stands in it."""

    section: Section
    rows: Sequence[tables.Row]
    data: str
    validation: str
    results: figures.Chart | None
    charts: Sequence[figures.Chart]


@dataclass(frozen=True)
class Explained:
    """What the page shows of the clouds that explain a method; empty where there are none."""

    source: pretraining.Explaining
    pictures: Sequence[pictures.Picture] = ()
    panels: Sequence[str] = ()
    viewer: str | None = None
    hard_share: str = ""
    height_correlation: float | None = None
    strays: int = 0
    files: dict[str, bytes] = field(default_factory=dict)


def write_report(results_json: Path, out: Path) -> Path:
    """Write the report of ``results_json`` into folder ``out``; returns ``report.html``.

    Every file appears whole, the page last.

    Raises:
        DataError: ``results_json`` is missing or not the results of an experiment.
        WriteError: the folder cannot be written.
    """
    experiment = read_experiment(Path(results_json))
    sections = sections_of(experiment)
    with style.context():
        shown = [_shown(experiment, section) for section in sections]
        curves = pretraining.curves(experiment)
        explained = _explained(experiment)
        gradient = {
            name: ", ".join(clouds.gradient(palette))
            for name, palette in (("light", style.LIGHT), ("dark", style.DARK))
        }
    drawn = [item for each in shown for item in (each.results, *each.charts) if item] + curves
    files = {f"figures/{item.key}.png": item.png for item in drawn}
    files |= explained.files if explained is not None else {}
    context = _context(experiment, sections) | {
        "shown": shown,
        "curves": curves,
        "explained": explained,
        "gradient": gradient,
        "palettes": {"light": vars(style.LIGHT), "dark": vars(style.DARK)},
        "figures": sorted(files),
        # last: whatever is missing has been noticed by now
        "problems": list(dict.fromkeys(experiment.problems)),
    }
    files["metrics.json"] = as_json(tables.metrics(experiment, sections))
    files["report.md"] = render("report.md.j2", context)
    files["report.html"] = render("report.html.j2", context)
    for name, content in files.items():
        write_whole(Path(out) / name, content)
    return Path(out) / "report.html"


def _shown(experiment: Experiment, section: Section) -> Shown:
    what = section.name
    results = experiment.attempt(f"{what}: chart", lambda: figures.results_chart(section))
    drawn: list[figures.Chart] = []
    for where in section.task.figures:
        made = experiment.attempt(f"{what}: {where}", partial(_drawn, where, section))
        drawn += made or []
    beside = partial(official.charts_of, experiment, section)
    drawn += experiment.attempt(f"{what}: official curves", beside) or []
    return Shown(
        section,
        tables.rows_of(section),
        provenance.data_facts(section),
        provenance.validation(experiment, section),
        results,
        drawn,
    )


def _drawn(where: str, section: Section) -> list[figures.Chart]:
    made: list[figures.Chart] = registry.load_at(where)(section)
    return made


def _explained(experiment: Experiment) -> Explained | None:
    source = pretraining.explaining(experiment)
    if source is None:
        return None
    if source.data is None:
        return Explained(source)
    data, attempt = source.data, experiment.attempt
    return Explained(
        source,
        attempt("pictures of the method", lambda: pictures.pictures(data)) or [],
        clouds.titles(data),
        attempt("orbit view", lambda: pictures.viewer(data)),
        pictures.hard_share(data),
        attempt("correlation with height", lambda: pictures.height_correlation(data)),
        attempt("points too far off", lambda: pictures.strays(data)) or 0,
        attempt("figure of the method", lambda: pictures.figure_files(data)) or {},
    )


def _context(experiment: Experiment, sections: Sequence[Section]) -> dict[str, Any]:
    variants = list(variants_of(experiment.config).values())
    return {
        "experiment": experiment,
        "headline": headline(experiment, sections),
        "facts": provenance.facts(experiment, sections),
        "variants": variants,
        "summary": tables.summary(sections, variants),
        "published": experiment.attempt(
            "published numbers", partial(published.published, experiment, sections)
        ),
        "told": pretraining.told(experiment),
        "pretrained": bool(experiment.config.methods),
        "data_sets": provenance.data_sets(experiment),
        "protocol": provenance.protocol(experiment, sections),
        "origin": provenance.origin(experiment),
        "ran": provenance.what_ran(experiment),
        "metric_label": metric_label,
        "blocks": blocks,
        "columns": columns,
        "left_share": left_share,
    }


def blocks(charts: Sequence[figures.Chart]) -> list[list[figures.Chart]]:
    """Charts in their order: each wide one alone, narrow ones that follow each other together."""
    found: list[list[figures.Chart]] = []
    for item in charts:
        if found and not item.wide and not found[-1][0].wide:
            found[-1].append(item)
        else:
            found.append([item])
    return found


def columns(charts: Sequence[figures.Chart]) -> list[list[figures.Chart]]:
    """Charts in two columns of about the same height; the order is kept in each."""
    sides: list[list[figures.Chart]] = [[], []]
    heights = [0.0, 0.0]
    for item in sorted(charts, key=lambda item: -item.height):
        shorter = heights.index(min(heights))
        sides[shorter].append(item)
        heights[shorter] += item.height + AROUND / (PAGE / 2)
    sides = [sorted(side, key=charts.index) for side in sides if side]
    return sorted(sides, key=lambda side: charts.index(side[0]))


def left_share(sides: Sequence[Sequence[figures.Chart]]) -> float:
    """Share of the page's width at which two columns end at the same height, as far as fonts
    allow."""
    if len(sides) < 2:
        return 0.5
    left, right = (sum(item.height for item in side) for side in sides)
    rest = AROUND * (len(sides[1]) - len(sides[0]))
    return min(max((right * PAGE + rest) / (left + right) / PAGE, 1 - WIDEST), WIDEST)
