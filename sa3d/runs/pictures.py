"""Pictures of one finished run, for its page in MLflow; those of an experiment are the report's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from sa3d.metrics import names as keys
from sa3d.tracking.journal import read_journal
from sa3d.utils.files import write_whole
from sa3d.viz import charts, clouds, explain, galleries, segmented, style
from sa3d.viz.gallery import gallery_figure

RESULT_NEUTRAL: Final = True
FOLDER: Final = "figures"
_CURVES = {"loss": keys.LOSS, "val_accuracy": keys.VAL_ACC, "val_miou": keys.VAL_MIOU}
_CLOUDS = 3  # shown of those that the run kept for pictures
_EPOCHS = 4  # of the curriculum


def draw(folder: Path, result: Mapping[str, Any]) -> Path | None:
    """Draw what a run left into ``figures/`` of its folder.

    Args:
        folder: of the run.
        result: its ``result.json``.

    Returns:
        That folder; None where there is nothing to draw.
    """
    place = folder / FOLDER
    with style.context():
        for name, figure in _figures(folder, result):
            write_whole(place / f"{name}.png", style.png(figure, dpi=120))
    return place if place.is_dir() else None


def _figures(folder: Path, result: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    history = read_journal(folder)
    for name, key in _CURVES.items():
        points = np.array(history.get(key, []), dtype=np.float64).reshape(-1, 2)
        points = points[np.isfinite(points[:, 1])]
        if len(points) > 1:
            line = charts.Series("", style.VARIANTS[0], points[:, 0], points[:, 1])
            yield name, charts.curves([line], style.LIGHT, x_label="step")
    confusion = result.get("details", {}).get("confusion")
    if confusion is not None:
        matrix = np.asarray(confusion["matrix"], dtype=np.int64)
        yield "confusion", charts.confusion(matrix, confusion["class_names"], style.LIGHT)
    left = result.get("artifacts", {})
    if "explain" in left:
        shown = explain.load_explain(folder / left["explain"])
        chosen = range(min(len(shown), _CLOUDS))
        yield "masking", clouds.explain_figure(shown, style.LIGHT, chosen)
        if shown.hard.any():
            yield "curriculum", _curriculum(folder, shown)
    if "examples" in left:
        parts = segmented.load_segmented(folder / left["examples"])
        variant = str(result["spec"]["variant"])
        chosen = range(min(len(parts), _CLOUDS))
        yield "parts", segmented.segmented_figure([(variant, parts)], chosen, style.LIGHT)


def _curriculum(folder: Path, shown: explain.Explained) -> Any:
    """The masks of some epochs, from the first to the last."""
    from sa3d.show import runs

    run = runs.open_run(folder, task="pretrain")
    columns = runs.masks_of(run, shown, runs.spread_epochs(runs.epochs_of(run), _EPOCHS))
    gallery = galleries.masks(columns, range(min(len(shown), _CLOUDS)), f"Mask of {run.title}")
    return gallery_figure(gallery, style.LIGHT)
