"""What part segmentation shows beside its numbers; named in its task's ``figures``."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from markupsafe import Markup

from sa3d.errors import DataError
from sa3d.metrics import names as keys
from sa3d.report.figures import Chart, Trained, chart, curve
from sa3d.report.sections import Section, Variant
from sa3d.report.wording import percent
from sa3d.viz import charts, segmented, style

SHOWN = 4  # variants beside the truth; more would be too small to see
LEVEL = "\u00a0"  # the line under the truth, so that all views of a row stand at one height
EXAMPLES = "examples"  # the artifact of a run that holds the clouds of the picture


def validation_curves(section: Section) -> list[Chart]:
    """Validation mIoU over training."""
    epochs = getattr(section.settings, "epochs", None)
    drawn = curve(
        f"{section.key}-validation",
        "Validation mIoU",
        "Mean over the validation clouds, each family counting once; it chooses the epoch whose "
        "test mIoU is reported.",
        keys.VAL_MIOU,
        [Trained(each.variant, each.runs, epochs) for each in section.variants],
        percentage=True,
    )
    return [] if drawn is None else [drawn]


# --- categories ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Categories:
    """What the finished runs of a variant did by category.

    Attributes:
        variant: which.
        names, clouds: of the categories that have test clouds.
        miou: of each, the mean over the runs.
        confused: true part, predicted part, points; all runs together, the most frequent first.
        points: test points of all runs together.
    """

    variant: Variant
    names: tuple[str, ...]
    clouds: tuple[int, ...]
    miou: tuple[float, ...]
    confused: tuple[tuple[str, str, int], ...]
    points: int


def categories(section: Section) -> list[Categories]:
    """Of every variant that has them, the reference first."""
    found = []
    for each in section.variants:
        stored = [run.result.get("details", {}).get("segmentation") for run in each.finished]
        tables = [table for table in stored if table]
        if not tables:
            continue
        rows = tables[0]["categories"]
        values = [[float(row["miou"]) for row in table["categories"]] for table in tables]
        pairs: dict[tuple[str, str], int] = {}
        for table in tables:
            for true, guess, points in table["confused"]:
                pairs[true, guess] = pairs.get((true, guess), 0) + int(points)
        found.append(
            Categories(
                each.variant,
                tuple(str(row["name"]) for row in rows),
                tuple(int(row["clouds"]) for row in rows),
                tuple(np.mean(values, axis=0).tolist()),
                tuple((*pair, n) for pair, n in sorted(pairs.items(), key=lambda kv: -kv[1])),
                sum(int(table["points"]) for table in tables),
            )
        )
    return [each for each in found if each.names == found[0].names]


def per_category_chart(section: Section) -> list[Chart]:
    """mIoU of every category, one variant beside the other, and the same as a table."""
    found = categories(section)
    if not found:
        return []
    names, clouds = list(found[0].names), np.array(found[0].clouds, dtype=np.int64)
    shown = [(each.variant.label, each.variant.role, np.array(each.miou)) for each in found]
    caption = "In brackets the number of test clouds."
    if found[0].confused:
        true, guess, points = found[0].confused[0]
        share = percent(points / found[0].points)
        caption += (
            f" {found[0].variant.label} most often takes {true} for {guess} "
            f"({share} of all test points)."
        )
    make = partial(charts.per_class, names, shown, clouds)
    key, title = f"{section.key}-per_category", "Mean IoU by category"
    drawn = chart(key, title, caption, make, wide=len(names) > charts.FEW)
    return [replace(drawn, svg=f"{drawn.svg}{_table(found)}")]


def _table(found: Sequence[Categories]) -> Markup:
    """The numbers of the chart, folded away until they are wanted."""
    rows: list[list[str]] = [["category", "clouds", *(each.variant.label for each in found)]]
    for place, name in enumerate(found[0].names):
        values = [percent(each.miou[place]) for each in found]
        rows.append([name, str(found[0].clouds[place]), *values])
    head, *body = (
        Markup("").join(Markup("<{0}>{1}</{0}>").format(kind, cell) for cell in row)
        for row, kind in zip(rows, ["th"] + ["td"] * (len(rows) - 1), strict=True)
    )
    lines = Markup("").join(Markup("<tr>{}</tr>").format(line) for line in body)
    return Markup(
        '<details><summary class="quiet">As a table</summary><div class="scroll"><table>'
        "<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div></details>"
    ).format(head, lines)


# --- pictures ------------------------------------------------------------------------------


def pictures(section: Section) -> list[Chart]:
    """A few test clouds: the true parts beside those that each variant predicts."""
    found = _examples(section)
    if not found:
        return []
    shown, left_out = found[:SHOWN], [variant.label for variant, _ in found[SHOWN:]]
    caption = (
        "The first test cloud of a few categories. Points have the colour of their part; "
        "a dark dot (in the dark theme a light one) marks a point whose part is wrong."
    )
    if left_out:
        caption += f" Not shown: {', '.join(left_out)}."
    columns = [(variant.label, data) for variant, data in shown]
    clouds = range(len(shown[0][1]))
    title = "Test clouds, true and predicted parts"
    png = style.png(segmented.segmented_figure(columns, clouds, style.LIGHT), dpi=120)
    return [Chart(f"{section.key}-parts", title, caption, _page(columns, clouds), png, wide=True)]


def _examples(section: Section) -> list[tuple[Variant, segmented.Segmented]]:
    """Of the first finished run of each variant; all show the same clouds.

    Raises:
        DataError: a file that cannot be read, or other clouds than the first variant's.
    """
    found: list[tuple[Variant, segmented.Segmented]] = []
    for each in section.variants:
        for run in each.finished[:1]:
            name = run.result.get("artifacts", {}).get(EXAMPLES)
            if run.folder is None or not name:
                continue
            data = segmented.load_segmented(run.folder / str(name))
            if found and not np.array_equal(found[0][1].points, data.points):
                raise DataError(f"{run.name} shows other clouds than {found[0][0].label}")
            found.append((each.variant, data))
    return found


def _page(columns: Sequence[tuple[str, segmented.Segmented]], clouds: Sequence[int]) -> Markup:
    """The picture as markup: images for light and dark, names and numbers as text."""
    first = columns[0][1]
    titles = Markup("").join(
        Markup("<span>{}</span>").format(title) for title in ("truth", *(c[0] for c in columns))
    )
    lines = [Markup('<div class="cloud head"><span class="name"></span>{}</div>').format(titles)]
    for cloud in clouds:
        cells = [_cell(first, cloud, "truth", segmented.truth_view(first, cloud), LEVEL)]
        for label, data in columns:
            share = percent(float(data.wrong(cloud).mean()))
            view = segmented.predicted_view(data, cloud)
            cells.append(_cell(data, cloud, label, view, f"{share} of points wrong"))
        lines.append(
            Markup('<div class="cloud"><div class="name">{}{}</div>{}</div>').format(
                first.name(cloud), _legend(first, cloud), Markup("").join(cells)
            )
        )
    return Markup('<div style="--panels: {}">{}</div>').format(
        1 + len(columns), Markup("").join(lines)
    )


def _legend(data: segmented.Segmented, cloud: int) -> Markup:
    return Markup("").join(
        Markup('<span class="sub"><span class="swatch" style="background: {}"></span>{}</span>')
        .format(segmented.color_of(data, cloud, part), segmented.short_name(data, cloud, part))
        for part in data.parts(cloud)
    )  # fmt: skip


def _cell(
    data: segmented.Segmented, cloud: int, title: str, shown: segmented.View, note: str
) -> Markup:
    light, dark = (
        "data:image/webp;base64,"
        + base64.b64encode(segmented.view_image(data, cloud, shown, palette)).decode("ascii")
        for palette in (style.LIGHT, style.DARK)
    )
    alt = f"{data.name(cloud)}: {title}"
    return Markup(
        '<div><picture><source media="screen and (prefers-color-scheme: dark)" srcset="{}">'
        '<img src="{}" width="480" height="400" alt="{}"></picture>'
        '<span class="sub" style="text-align: center">{}</span></div>'
    ).format(dark, light, alt, note)
