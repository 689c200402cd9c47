"""An experiment with the settings of another one, on other data."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

from sa3d import registry
from sa3d.config.base import Frozen
from sa3d.config.data import DataConfig
from sa3d.config.resolve import Tree, with_recipes
from sa3d.errors import ConfigError
from sa3d.registry import nearest

_POINTS = DataConfig(name="any").points
_EPISODE = frozenset({"way", "shot", "queries"})  # settings of a task that draws episodes


class NewData(NamedTuple):
    """What is known of the data set that an experiment moves to.

    Attributes:
        name: its key under ``datasets``.
        train, test: clouds of each class in the two splits.
        least_points: points of its smallest cloud.
        parts: whether its points have part labels.
    """

    name: str
    train: tuple[int, ...]
    test: tuple[int, ...]
    least_points: int
    parts: bool


class Like(NamedTuple):
    """An experiment, and what could not stay as it was, one line each."""

    values: Tree
    notes: list[str]


def experiment_like(tree: Mapping[str, Any], like: str, data: NewData) -> Like:
    """What is written under ``experiments`` for ``like`` on other data.

    With two classes or more, everything is done on the new data: evaluations on other data sets
    become ones on this, or go where that leaves two alike or where the data cannot serve them.
    With one class there is nothing to classify: only pre-training moves, and evaluations stay on
    the data that they had.

    More points than the smallest cloud has become so many. A batch that is too large for the
    training split becomes a power of two of at most half of it, since of too few clouds no batch
    can be made. Few-shot episodes get fewer ways and queries where classes or clouds are too few.

    Args:
        tree: the whole ``params.yaml``.
        like: an experiment in it.
        data: the new data set.

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
    moving = _Moving(data, [])
    before = _mapping(full["pretrain"]["data"])
    pretrain = dict(own.get("pretrain") or {})
    pretrain["data"] = moving.data(_mapping(pretrain.get("data")), before)
    own["description"] = f"as {like}, on {data.name}"
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
    if len(data.train) < 2:
        own["evaluate"] = [
            {**item, "data": _mapping(whole.get("data")) or before} for item, whole in pairs
        ]
        moving.notes.append(
            f"'{data.name}' has one class, so evaluations stay on {_mapping(before)['name']}"
        )
    elif evaluate:
        own["evaluate"] = _on(moving, pairs, before)
    return Like(own, moving.notes)


class _Moving(NamedTuple):
    """An experiment on its way to other data, and what changes with that."""

    to: NewData
    notes: list[str]

    def data(self, said: Tree, complete: Tree) -> Tree:
        """What is said of a data set, for the new one; no more points than that has."""
        moved = {**said, "name": self.to.name}
        points = complete.get("points", _POINTS)
        if points > self.to.least_points:
            moved["points"] = self.to.least_points
            self.notes.append(
                f"points {points} became {self.to.least_points}: the smallest cloud has no more"
            )
        return moved

    def fitted(self, said: Tree, complete: Tree, where: str) -> Tree:
        """Settings of a training, with batches that its clouds fill."""
        size = complete.get("batch_size", 0)
        clouds = sum(self.to.train)
        # validation may take its part of the clouds
        if size <= clouds // 2:
            return said
        largest = max(2, _power_of_two(clouds // 2))
        if largest >= size:
            return said
        self.notes.append(
            f"{where}: batch_size {size} became {largest}: there are {clouds} clouds to train on"
        )
        return {**said, "batch_size": largest}


def _on(moving: _Moving, pairs: list[tuple[Tree, Tree]], before: Tree) -> list[Tree]:
    """The evaluations on the new data that it can serve, without any that would be done twice."""
    kept: list[Tree] = []
    seen = set()
    for item, whole in pairs:
        named = " ".join(str(whole[key]) for key in ("task", "label") if whole.get(key))
        task = registry.task(str(whole.get("task")))
        if task.trains == "segmenter" and not moving.to.parts:
            moving.notes.append(f"{named} is left out: '{moving.to.name}' has no part labels")
            continue
        moved = {k: v for k, v in item.items() if k != "data"}
        settings = dict(whole.get("settings") or {})
        episodes = set(task.settings.model_fields) >= _EPISODE
        if episodes:
            changed = _episode(moving, named, task.settings, settings)
            if changed is None:
                continue
            if changed:
                moved["settings"] = {**(item.get("settings") or {}), **changed}
            label = str(whole.get("label") or "")
            if "way" in changed and label.startswith(f"{settings['way']}w"):
                moved["label"] = f"{changed['way']}{label.removeprefix(str(settings['way']))}"
        key = (whole.get("task"), moved.get("label", whole.get("label")))
        if key in seen:
            on = _mapping(whole.get("data")).get("name") or before["name"]
            moving.notes.append(f"{named} on {on} is left out: it would be done twice")
            continue
        seen.add(key)
        said = _mapping(whole.get("data"))
        if said:
            moved["data"] = moving.data(_mapping(item.get("data")), before | said)
        if task.trains is not None and not episodes:
            where = f"evaluate.{len(kept)}.settings"
            fitted = moving.fitted(dict(item.get("settings") or {}), settings, where)
            if fitted:
                moved["settings"] = fitted
        kept.append(moved)
    return kept


def _episode(moving: _Moving, named: str, kind: type[Frozen], settings: Tree) -> Tree | None:
    """What an episode's settings become on the new data: fewer ways and queries, and a batch that
    its training clouds fill. None: no episode can be drawn there.

    ``shot`` stays, since with another one the evaluation asks another question.
    """
    way, shot, queries = (
        settings.get(key, kind.model_fields[key].default) for key in ("way", "shot", "queries")
    )
    if not all(isinstance(number, int) for number in (way, shot, queries)):
        return {}  # the settings are refused when they are loaded, with what is wrong
    if settings.get("episodes") == "published":
        moving.notes.append(f"{named} is left out: '{moving.to.name}' brings no episodes")
        return None
    clouds = zip(moving.to.train, moving.to.test, strict=True)
    tests = sorted((test for train, test in clouds if train >= shot and test > 0), reverse=True)
    if len(tests) < 2:
        moving.notes.append(
            f"{named} is left out: fewer than 2 classes have {shot} training clouds and a test "
            "cloud"
        )
        return None
    changed: Tree = {}
    if len(tests) < way:
        changed["way"] = len(tests)
        moving.notes.append(
            f"{named}: way {way} became {len(tests)}: no more classes have {shot} training clouds "
            "and a test cloud"
        )
        way = len(tests)
    if tests[way - 1] < queries:
        changed["queries"] = tests[way - 1]
        moving.notes.append(
            f"{named}: queries {queries} became {tests[way - 1]}: only so many test clouds are in "
            f"each of {way} classes"
        )
    batch = settings.get("batch_size", 0)
    if batch > way * shot:
        changed["batch_size"] = _power_of_two(way * shot)
        moving.notes.append(
            f"{named}: batch_size {batch} became {changed['batch_size']}: an episode has "
            f"{way * shot} training clouds"
        )
    return changed


def _power_of_two(most: int) -> int:
    """The largest one that is not above ``most``, at least 1."""
    return 1 << (max(most, 1).bit_length() - 1)


def _mapping(data: Any) -> Tree:
    """``shapes`` is short for ``{name: shapes}``."""
    return {"name": data} if isinstance(data, str) else dict(data or {})
