"""An experiment with the settings of another one, on other data."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from sa3d.config.resolve import Tree, with_recipes
from sa3d.errors import ConfigError
from sa3d.registry import nearest


def experiment_like(
    tree: Mapping[str, Any], like: str, data: str, *, least_points: int, classes: int
) -> Tree:
    """What is written under ``experiments`` for ``like`` on the data set ``data``.

    With two classes or more, everything is done on the new data: evaluations on other data sets
    become ones on this, or go where that leaves two alike. With one class there is nothing to
    classify: only pre-training moves, and evaluations stay on the data that they had.

    Args:
        tree: the whole ``params.yaml``.
        like: an experiment in it.
        data: the new data set.
        least_points: points of its smallest cloud; more are asked of none.
        classes: how many it has.

    Raises:
        ConfigError: no such experiment, or one without pre-training.
    """
    experiments = tree.get("experiments") or {}
    if not isinstance(experiments.get(like), Mapping):
        raise ConfigError(
            f"no experiment '{like}'{nearest(like, experiments)}; there are: "
            f"{', '.join(experiments)}"
        )
    own: Tree = copy.deepcopy(dict(experiments[like]))
    full = with_recipes(own, tree.get("recipes") or {})
    if not isinstance(full.get("pretrain"), Mapping) or not full["pretrain"].get("data"):
        raise ConfigError(f"experiment '{like}' has no pretrain.data; choose one that has")
    before = _mapping(full["pretrain"]["data"])
    pretrain = dict(own.get("pretrain") or {})
    pretrain["data"] = _moved(_mapping(pretrain.get("data")), before, data, least_points)
    own["description"] = f"as {like}, on {data}"
    own["pretrain"] = pretrain
    evaluate = full.get("evaluate") or []
    written = own.get("evaluate") or copy.deepcopy(evaluate)
    if classes < 2:
        own["evaluate"] = [
            {**item, "data": _mapping(whole.get("data")) or before}
            for item, whole in zip(written, evaluate, strict=True)
        ]
    elif any(item.get("data") for item in evaluate):
        own["evaluate"] = _on(data, written, evaluate, before, least_points)
    return own


def _on(
    data: str, written: list[Tree], evaluate: list[Tree], before: Tree, least_points: int
) -> list[Tree]:
    """The evaluations on the new data, without those that it makes equal to an earlier one."""
    kept, seen = [], set()
    for item, whole in zip(written, evaluate, strict=True):
        key = (whole.get("task"), whole.get("label"))
        if key in seen:
            continue
        seen.add(key)
        said = _mapping(whole.get("data"))
        moved = {k: v for k, v in item.items() if k != "data"}
        if said:
            moved["data"] = _moved(_mapping(item.get("data")), before | said, data, least_points)
        kept.append(moved)
    return kept


def _moved(said: Tree, complete: Tree, data: str, least_points: int) -> Tree:
    """What is said of a data set, for the new one; no more points than that has."""
    moved = {**said, "name": data}
    if complete.get("points", 0) > least_points or "points" not in complete:
        moved["points"] = min(least_points, complete.get("points", 1024))
    return moved


def _mapping(data: Any) -> Tree:
    """``shapes`` is short for ``{name: shapes}``."""
    return {"name": data} if isinstance(data, str) else dict(data or {})
