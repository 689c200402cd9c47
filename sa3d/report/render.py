"""Putting the report together and on the disk."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sa3d.errors import UserError
from sa3d.report import comparison, figures, provenance
from sa3d.report.results import Experiment, read_experiment
from sa3d.utils.files import write_whole
from sa3d.viz import clouds, style
from sa3d.viz import explain as ex

TEMPLATES = Path(__file__).parent / "templates"
SHOWN = 6  # clouds in the page; fewer in the figure file
IN_FILE = 4


@dataclass(frozen=True)
class Picture:
    """A cloud of the explaining picture: its panels for light and dark, as data addresses."""

    name: str
    light: list[str]
    dark: list[str]


def write_report(results_json: Path, out: Path) -> Path:
    """Write the report of ``results_json`` into folder ``out``; returns ``report.html``.

    Every file appears whole, the page last.

    Raises:
        DataError: ``results_json`` is missing or not the results of an experiment.
        WriteError: the folder cannot be written.
    """
    experiment = read_experiment(Path(results_json))
    table = comparison.task_rows(experiment)
    with style.context():
        drawn = _charts(experiment, table)
        data = experiment.attempt("explanation of the method", lambda: _explained(experiment))
        pictures = experiment.attempt("pictures of the method", lambda: _pictures(data)) or []
        files = {f"figures/{item.key}.png": item.png for item in drawn.values()}
        files |= experiment.attempt("figure of the method", lambda: _figure_files(data)) or {}
        context = _context(experiment, table, drawn, pictures)
        context["viewer"] = experiment.attempt("orbit view", lambda: _viewer(data))
        context["panels"] = clouds.titles(data) if data is not None else []
        context["hard_share"] = _hard_share(data)
        context["height_correlation"] = experiment.attempt(
            "correlation with height", lambda: height_correlation(data)
        )
        context["gradient"] = {
            name: ", ".join(clouds.gradient(palette))
            for name, palette in (("light", style.LIGHT), ("dark", style.DARK))
        }
    context["palettes"] = {"light": vars(style.LIGHT), "dark": vars(style.DARK)}
    context["figures"] = sorted(files)
    files["metrics.json"] = _json(comparison.metrics(experiment, table))
    files["report.md"] = _render("report.md.j2", context)
    files["report.html"] = _render("report.html.j2", context)
    for name, content in files.items():
        write_whole(Path(out) / name, content)
    return Path(out) / "report.html"


def _charts(
    experiment: Experiment, table: Sequence[comparison.TaskRow]
) -> dict[str, figures.Drawn]:
    attempt = experiment.attempt
    found = [
        attempt("results chart", lambda: figures.results_chart(experiment, table)),
        *(attempt("training curves", lambda: figures.training_charts(experiment)) or []),
        attempt("confusion matrix", lambda: figures.confusion_chart(experiment)),
        attempt("accuracy by class", lambda: figures.per_class_chart(experiment)),
    ]
    return {item.key: item for item in found if item is not None}


def _context(
    experiment: Experiment,
    table: Sequence[comparison.TaskRow],
    drawn: dict[str, figures.Drawn],
    pictures: list[Picture],
) -> dict[str, Any]:
    curves = ("ranking_loss", "curriculum", "feature_loss", "point_loss", "learning_rate",
              "validation")  # fmt: skip
    return {
        "experiment": experiment,
        "headline": comparison.headline(experiment, table),
        "rows": table,
        "arms": [(arm, comparison.arm_label(experiment, arm)) for arm in experiment.arms],
        "floors": comparison.floors(experiment),
        "percent": comparison.percent,
        "span": comparison.span,
        "drawn": drawn,
        "curves": [drawn[key] for key in curves if key in drawn],
        "errors": [drawn[key] for key in ("confusion", "per_class") if key in drawn],
        "pictures": pictures,
        "method": comparison.arm_label(experiment, "method"),
        "guided": experiment.setting("pretrain.mask") == "gc",
        "rebuilt_by_teacher": experiment.decoded_by_teacher,
        "data_facts": provenance.data_facts(experiment),
        "data_note": provenance.data_note(experiment),
        "protocol": provenance.protocol(experiment, table),
        "origin": provenance.origin(experiment),
        "steps": provenance.steps(experiment),
        "problems": list(dict.fromkeys(experiment.problems)),
    }


def _explained(experiment: Experiment) -> ex.Explained | None:
    node = experiment.nodes.get("pretrain-method")
    if node is None or not node.finished:
        return None
    if node.folder is None or not (node.folder / ex.FILE).is_file():
        raise UserError(f"{node.name} left no {ex.FILE}")
    return ex.load_explain(node.folder / ex.FILE)


def _pictures(data: ex.Explained | None) -> list[Picture]:
    if data is None:
        return []
    found = []
    for cloud in range(min(len(data), SHOWN)):
        light, dark = (
            [_address(image) for image in clouds.panel_images(data, cloud, palette)]
            for palette in (style.LIGHT, style.DARK)
        )
        found.append(Picture(data.name(cloud), light, dark))
    return found


def _hard_share(data: ex.Explained | None) -> str:
    """How much of the shown masks was chosen for being hard, in words."""
    if data is None:
        return ""
    hard = np.unique((data.hard & data.mask).sum(axis=1))
    counts = f"{hard[0]}" if len(hard) == 1 else f"{hard[0]} to {hard[-1]}"
    return f"{counts} of the {int(data.mask[0].sum())} masked patches of a cloud"


def height_correlation(data: ex.Explained | None) -> float | None:
    """Mean over clouds of Spearman's correlation of predicted complexity with patch height.

    A predictor sees positions, so it may rank by place alone; this says how far it does.
    """
    from scipy.stats import spearmanr

    if data is None or data.gc is None:
        return None
    height = data.centers[:, :, 1]
    found = [spearmanr(scores, y).statistic for scores, y in zip(data.gc, height, strict=True)]
    return float(np.mean(found))


def _address(image: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(image).decode("ascii")


def _figure_files(data: ex.Explained | None) -> dict[str, bytes]:
    if data is None:
        return {}
    chosen = range(min(len(data), IN_FILE))
    return {
        f"figures/{name}.png": style.png(
            clouds.explain_figure(data, palette, chosen), dpi=150, background=palette.paper
        )
        for name, palette in (("method", style.LIGHT), ("method-dark", style.DARK))
    }


def _viewer(data: ex.Explained | None) -> str | None:
    """What the orbit view draws, as JSON: int16 coordinates and one byte a point, base64."""
    if data is None:
        return None
    shown = []
    for cloud in range(min(len(data), SHOWN)):
        middle, radius = clouds.frame(data.points[cloud])
        rebuilt, states = ex.rebuilt_points(data, cloud)
        shown.append(
            {
                "name": data.name(cloud),
                "points": _packed((data.points[cloud] - middle) / radius),
                "rank": _bytes(ex.point_complexity(data, cloud) * 255)
                if data.gc is not None
                else "",
                "state": _bytes(ex.point_state(data, cloud)),
                "rebuilt": _packed((rebuilt - middle) / radius),
                "rebuiltState": _bytes(states),
            }
        )
    # "<" could end the script element that holds this
    return json.dumps(shown, separators=(",", ":")).replace("<", "\\u003c")


def _packed(points: Any) -> str:
    whole = np.clip(np.rint(points * 16384), -32768, 32767).astype("<i2")
    return base64.b64encode(whole.tobytes()).decode("ascii")


def _bytes(values: Any) -> str:
    return base64.b64encode(np.rint(values).astype(np.uint8).tobytes()).decode("ascii")


def _unbroken(value: Any) -> Any:
    """Keep a number and its unit on one line; markup passes as it is."""
    if type(value) is not str:
        return value
    return re.sub(r"(?<=\d) (?=(%|s|min|h|points|\d{3})(?!\w))", "\u00a0", value)


def _json(tree: dict[str, Any]) -> bytes:
    return (json.dumps(tree, indent=2) + "\n").encode()


def _render(name: str, context: dict[str, Any]) -> bytes:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=".html" in name,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_unbroken if ".html" in name else None,
    )
    # text inside a Markdown table must not open a new cell, line or tag
    environment.filters["cell"] = lambda text: (
        str(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
    )
    return (environment.get_template(name).render(context).rstrip() + "\n").encode("utf-8")
