"""From what ``params.yaml`` says of an experiment to complete settings, as plain mappings.

Three things are filled in, here and nowhere else:

- ``recipe: NAME`` in any mapping stands for the mapping ``recipes.NAME``; what is written beside
  it wins. A recipe may use another one.
- A variant with a ``method`` takes over what ``pretrain`` says beside ``data``.
- An evaluation takes over the experiment's ``model``, the data of pre-training, all variants
  and the seeds; what it says itself wins.

Mappings are merged key by key; a list replaces a list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sa3d.config.base import DEFAULT_SEEDS
from sa3d.config.yaml_file import read_value
from sa3d.errors import ConfigError
from sa3d.models.settings import DEFAULT
from sa3d.registry import nearest

RECIPE = "recipe"
Tree = dict[str, Any]


def with_recipes(values: Any, recipes: Mapping[str, Any], within: tuple[str, ...] = ()) -> Any:
    """``values`` with every ``recipe`` replaced by what it stands for.

    Raises:
        ConfigError: no such recipe, or recipes that use each other.
    """
    if isinstance(values, list):
        return [with_recipes(item, recipes, within) for item in values]
    if not isinstance(values, Mapping):
        return values
    own = {k: with_recipes(v, recipes, within) for k, v in values.items() if k != RECIPE}
    name = values.get(RECIPE)
    if name is None:
        return own
    if not isinstance(name, str) or not isinstance(recipes.get(name), Mapping):
        hint = nearest(str(name), recipes)
        there = ", ".join(recipes) or "none"
        raise ConfigError(f"no recipe '{name}'{hint}; `recipes` has: {there}")
    if name in within:
        raise ConfigError(f"recipes use each other: {' -> '.join((*within, name))}")
    return merge(with_recipes(recipes[name], recipes, (*within, name)), own)


def used_recipes(values: Any, recipes: Mapping[str, Any]) -> list[str]:
    """Names of the recipes in ``values``, and of those that these use, in the order met.

    Each must be in ``recipes``; :func:`with_recipes` says so to users.
    """
    found: list[str] = []
    waiting = [values]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += reversed(item)
        elif isinstance(item, Mapping):
            waiting += reversed([value for key, value in item.items() if key != RECIPE])
            name = item.get(RECIPE)
            if name is not None and name not in found:
                found.append(name)
                waiting.append(recipes[name])
    return found


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """``base`` with the values of ``over``, mappings merged key by key."""
    merged = dict(base)
    for one, other in (("mask_ratio", "masked"), ("masked", "mask_ratio")):
        if over.get(one) is not None and other not in over:
            merged.pop(other, None)  # a count given in the other form replaces this one
    for key, value in over.items():
        before = merged.get(key)
        if key == "mask":
            before, value = _named(before), _named(value)
        if key == "data":
            before, value = _named(before), _named(value)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        if both and not _another_component(key, before, value):
            merged[key] = merge(before, value)  # type: ignore[arg-type]
        else:
            merged[key] = value
    return merged


def _named(value: Any) -> Any:
    """``gc`` is short for ``{name: gc}``."""
    return {"name": value} if isinstance(value, str) else value


def _another_component(key: str, before: Any, after: Mapping[str, Any]) -> bool:
    """Whether ``after`` names another backbone or mask, to which the settings of the one before
    mean nothing."""
    if key == "model" and "backbone" in after:
        return bool(after["backbone"] != before.get("backbone", DEFAULT))
    if key == "mask" and "name" in after:
        return bool(after["name"] != before.get("name"))
    return False


def completed(values: Mapping[str, Any]) -> Tree:
    """An experiment with everything filled in that one part takes over from another.

    Applied to its own result it changes nothing.
    """
    found = dict(values)
    pretrain = values.get("pretrain")
    shared: Tree = {}
    if isinstance(pretrain, Mapping):
        shared = {key: value for key, value in pretrain.items() if key != "data"}
        found["pretrain"] = {k: _named(v) for k, v in pretrain.items() if k == "data"}
    variants = values.get("variants")
    if isinstance(variants, Mapping):
        found["variants"] = {
            name: merge(shared, variant)
            if isinstance(variant, Mapping) and "method" in variant
            else variant
            for name, variant in variants.items()
        }
        found.setdefault("reference", next(iter(variants), None))
    evaluate = values.get("evaluate")
    if isinstance(evaluate, list):
        found["evaluate"] = [_evaluation(found, item) for item in evaluate]
    return found


def _evaluation(experiment: Mapping[str, Any], item: Any) -> Any:
    if not isinstance(item, Mapping):
        return item
    pretrain, variants = experiment.get("pretrain"), experiment.get("variants")
    base: Tree = {"seeds": experiment.get("seeds", list(DEFAULT_SEEDS)), "settings": {}}
    if "model" in experiment:
        base["model"] = experiment["model"]
    if isinstance(pretrain, Mapping) and "data" in pretrain:
        data = pretrain["data"]
        # of which data set: an evaluation may name another
        own = (
            {k: v for k, v in data.items() if k != "endless"} if isinstance(data, Mapping) else data
        )
        base["data"] = own
    if isinstance(variants, Mapping):
        base["variants"] = list(variants)
    return merge(base, item)


def overridden(values: Mapping[str, Any], overrides: Sequence[str]) -> Tree:
    """``values`` with ``section.key=value`` overrides applied.

    An evaluation is addressed by its number, task or label: ``evaluate.svm.settings.folds=5``
    sets it in every evaluation of that task.

    Raises:
        ConfigError: no ``key=value``, no value, or no such evaluation.
    """
    parsed = [_parsed(item) for item in overrides]
    # another backbone clears the settings of the one before: it must not clear overrides
    parsed.sort(key=lambda pair: not _names_backbone(*pair))
    found = dict(values)
    for keys, value in parsed:
        if keys[0] == "evaluate" and len(keys) > 1:
            found["evaluate"] = _in_list(found.get("evaluate"), keys[1], _nested(keys[2:], value))
        else:
            found = merge(found, _nested(keys, value))
    return found


def _parsed(item: str) -> tuple[list[str], Any]:
    key, equals, text = item.partition("=")
    keys = [part.strip() for part in key.split(".")]
    if not equals or not all(keys):
        raise ConfigError(f"--set {item}: expected section.key=value, as in pretrain.lr=0.001")
    try:
        return keys, read_value(text)
    except ValueError as error:
        raise ConfigError(f"--set {item}: {error}") from None


def _names_backbone(keys: Sequence[str], value: Any) -> bool:
    model = _nested(keys, value).get("model")
    return isinstance(model, Mapping) and "backbone" in model


def _nested(keys: Sequence[str], value: Any) -> Any:
    for key in reversed(keys):
        value = {key: value}
    return value


def _in_list(evaluate: Any, which: str, value: Any) -> list[Any]:
    items = [item if isinstance(item, Mapping) else {} for item in evaluate or []]
    names = [(str(number), i.get("task"), i.get("label")) for number, i in enumerate(items)]
    chosen = [number for number, known in enumerate(names) if which in known]
    if not chosen or not isinstance(value, Mapping):
        known = ", ".join(str(task) for _, task, _ in names) or "none"
        raise ConfigError(
            f"--set evaluate.{which}: no such evaluation; give its number (from 0), task or label, "
            f"as in evaluate.0.data.points=512; there are: {known}"
        )
    return [merge(item, value) if n in chosen else item for n, item in enumerate(items)]
