"""What a model says of clouds, as trees for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sa3d.data.preprocessing import Axis, unit_sphere_float64, upright
from sa3d.inference.classes import ClassPredictor
from sa3d.inference.clouds import usual_density
from sa3d.inference.encoder import Encoder
from sa3d.inference.loading import Loaded
from sa3d.inference.parts import PartPredictor
from sa3d.service.bodies import Asked


def described(model: Loaded) -> dict[str, Any]:
    """What the model is: its kind, its names, and how many points it sees of a cloud."""
    names = {
        name: model.card[name] for name in ("class_names", "part_names") if name in model.card
    }
    return {
        "kind": model.card["kind"],
        "sha256": model.card["sha256"],
        "points": model.preprocessing.points,
        **names,
    }


def answered(
    model: Loaded, asked: Sequence[Asked], up: Axis, category: str | None, shown: int
) -> list[dict[str, Any]]:
    """One tree a cloud, in their order.

    Args:
        model: that is asked.
        asked: the clouds.
        up: the axis of them that points up.
        category: of them, for a segmentation model.
        shown: points of each that are added for a picture.

    Raises:
        UserError: a cloud that is none, or a category that the model does not know.
    """
    clouds = [each.points for each in asked]
    found: list[dict[str, Any]]
    if isinstance(model, PartPredictor):
        parts = model.predict(clouds, up=up, category=category)
        found = [
            {"category": parts.category, "parts": each.labels.tolist()} for each in parts.clouds
        ]
    elif isinstance(model, ClassPredictor):
        classes = model.predict(clouds, up=up)
        found = [
            {"class": best, "probabilities": dict(zip(classes.class_names, row, strict=True))}
            for best, row in zip(classes.classes, classes.probabilities.tolist(), strict=True)
        ]
    else:
        assert isinstance(model, Encoder)
        found = [{"features": row} for row in model.predict(clouds, up=up).features.tolist()]
    return [
        {
            "id": each.id,
            "points": len(each.points),
            "usual_density": usual_density(len(each.points), model.preprocessing.usual_points),
            **tree,
            **_picture(each, tree, up, shown),
        }
        for each, tree in zip(asked, found, strict=True)
    ]


def _picture(asked: Asked, tree: dict[str, Any], up: Axis, shown: int) -> dict[str, Any]:
    """Some points, spread evenly over the rows of the cloud, upright and in the unit sphere."""
    if shown == 0:
        return {}
    rows = np.unique(np.linspace(0, len(asked.points) - 1, shown).round().astype(np.int64))
    seen = upright(unit_sphere_float64(asked.points), up)[rows]
    picture: dict[str, Any] = {"points": seen.round(4).tolist()}
    if "parts" in tree:
        picture["parts"] = [tree["parts"][row] for row in rows]
    return {"shown": picture}
