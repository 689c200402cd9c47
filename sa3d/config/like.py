"""An experiment with the settings of another one, on other data."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

from sa3d import registry
from sa3d.config.data import DataConfig
from sa3d.config.resolve import Tree, with_recipes
from sa3d.errors import ConfigError
from sa3d.registry import nearest

_POINTS = DataConfig(name="any").points


class Like(NamedTuple):
    """An experiment, and what could not stay as it was, one line each."""

    values: Tree
    notes: list[str]


def experiment_like(
    tree: Mapping[str, Any],
    like: str,
    data: str,
    *,
    classes: int,
    least_points: int,
    train_clouds: int,
) -> Like:
    """What is written under ``experiments`` for ``like`` on the data set ``data``.

    With two classes or more, everything is done on the new data: evaluations on other data sets
    become ones on this, or go where that leaves two alike. With one class there is nothing to
    classify: only pre-training moves, and evaluations stay on the data that they had.

    Args:
        tree: the whole ``params.yaml``.
        like: an experiment in it.
        data: the new data set.
        classes: how many it has.
        least_points: points of its smallest cloud; where more are asked for, so many.
        train_clouds: clouds of its training split; a batch that is larger becomes a power of two
            of at most half of them, since of too few clouds no batch can be made.

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
    moving = _Moving(data, least_points, train_clouds, [])
    before = _mapping(full["pretrain"]["data"])
    pretrain = dict(own.get("pretrain") or {})
    pretrain["data"] = moving.data(_mapping(pretrain.get("data")), before)
    own["description"] = f"as {like}, on {data}"
    own["pretrain"] = moving.fitted(pretrain, full["pretrain"], "pretrain")
    variants = full.get("variants") or {}
    for name, whole in variants.items():
        if isinstance(whole, Mapping) and "batch_size" in whole:
            own["variants"] = dict(own.get("variants") or {})
            said = dict(own["variants"].get(name) or {})
            own["variants"][name] = moving.fitted(said, dict(whole), f"variants.{name}")
    evaluate = full.get("evaluate") or []
    written = own.get("evaluate") or copy.deepcopy(evaluate)
    pairs = list(zip(written, evaluate, strict=True))
    if classes < 2:
        own["evaluate"] = [
            {**item, "data": _mapping(whole.get("data")) or before} for item, whole in pairs
        ]
        moving.notes.append(
            f"'{data}' has one class, so evaluations stay on {_mapping(before)['name']}"
        )
    elif evaluate:
        own["evaluate"] = _on(moving, pairs, before)
    return Like(own, moving.notes)


class _Moving(NamedTuple):
    """The data set that an experiment moves to."""

    name: str
    least_points: int
    train_clouds: int
    notes: list[str]

    def data(self, said: Tree, complete: Tree) -> Tree:
        """What is said of a data set, for the new one; no more points than that has."""
        moved = {**said, "name": self.name}
        points = complete.get("points", _POINTS)
        if points > self.least_points:
            moved["points"] = self.least_points
            self.notes.append(
                f"points {points} became {self.least_points}: the smallest cloud has no more"
            )
        return moved

    def fitted(self, said: Tree, complete: Tree, where: str) -> Tree:
        """Settings of a training, with batches that its clouds fill."""
        size = complete.get("batch_size", 0)
        # validation may take its part of the clouds
        if size <= self.train_clouds // 2:
            return said
        largest = max(2, 1 << (max(self.train_clouds // 2, 1).bit_length() - 1))
        if largest >= size:
            return said
        self.notes.append(
            f"{where}: batch_size {size} became {largest}: there are {self.train_clouds} clouds "
            "to train on"
        )
        return {**said, "batch_size": largest}


def _on(moving: _Moving, pairs: list[tuple[Tree, Tree]], before: Tree) -> list[Tree]:
    """The evaluations on the new data, without those that it makes equal to an earlier one."""
    kept: list[Tree] = []
    seen = set()
    for item, whole in pairs:
        key = (whole.get("task"), whole.get("label"))
        if key in seen:
            moving.notes.append(
                f"{whole.get('task')} on {_mapping(whole.get('data')).get('name')} is left out: it "
                "would be done twice"
            )
            continue
        seen.add(key)
        moved = {k: v for k, v in item.items() if k != "data"}
        said = _mapping(whole.get("data"))
        if said:
            moved["data"] = moving.data(_mapping(item.get("data")), before | said)
        settings = whole.get("settings") or {}
        if registry.task(str(whole.get("task"))).trains is not None:
            where = f"evaluate.{len(kept)}.settings"
            fitted = moving.fitted(dict(item.get("settings") or {}), settings, where)
            if fitted:
                moved["settings"] = fitted
        kept.append(moved)
    return kept


def _mapping(data: Any) -> Tree:
    """``shapes`` is short for ``{name: shapes}``."""
    return {"name": data} if isinstance(data, str) else dict(data or {})
