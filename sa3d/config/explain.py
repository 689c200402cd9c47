"""What pydantic found wrong, in words that name the key, the value and what is allowed."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from sa3d import registry
from sa3d.config.experiment import ExperimentConfig
from sa3d.errors import ConfigError
from sa3d.models.settings import DEFAULT
from sa3d.registry import nearest

_SHOWN = 3  # problems named in one message
Place = tuple[str, ...]


class Explanation(NamedTuple):
    """``text`` says what is wrong; ``blamed`` is ``--set`` where that alone caused it."""

    text: str
    blamed: str


def explained(
    error: ValidationError,
    raw: Mapping[str, Any],
    values: Mapping[str, Any],
    where: str,
    overrides: Sequence[str] = (),
    kind: type[BaseModel] = ExperimentConfig,
) -> Explanation:
    """The first problems of ``error``, each once.

    Args:
        error: what validation of ``values`` raised.
        raw: the settings before one part took over from another; a problem is told at the place
            where a user wrote it.
        values: the complete settings.
        where: place of the settings in the file.
        overrides: ``key=value`` of ``--set``.
        kind: class of the settings.
    """
    problems: dict[Place, str] = {}
    for item in error.errors(include_url=False):
        place = tuple(str(part) for part in item["loc"])
        told = _written_at(place, raw)
        problems.setdefault(told, _explain(kind, item, place, ".".join((where, *told)), values))
    keys = [tuple(item.partition("=")[0].strip().split(".")) for item in overrides]
    given = bool(keys) and all(any(_same(place, key) for key in keys) for place in problems)
    return Explanation("; ".join(list(problems.values())[:_SHOWN]), "--set" if given else "")


def _same(place: Place, key: Place) -> bool:
    """Whether an override set what stands at ``place``; evaluations may be named by task."""
    if key[:1] == ("evaluate",) == place[:1]:
        key, place = (*key[:1], *key[2:]), (*place[:1], *place[2:])
    return place == key


def _written_at(place: Place, raw: Mapping[str, Any]) -> Place:
    """Where a user wrote what stands at ``place`` of the complete settings."""
    if place[:1] == ("variants",) and len(place) > 2:
        own = _at(raw, place[:2])
        if not _has(own, place[2]) and _has(raw.get("pretrain"), place[2]):
            return ("pretrain", *place[2:])
    if place[:1] == ("evaluate",) and len(place) > 2:
        own = _at(raw, place[:2])
        if place[2] == "model" and not _has(own, "model"):
            return place[2:]
        if place[2] == "data" and not _has(own, "data"):
            return ("pretrain", *place[2:])
        if place[2] == "seeds" and not _has(own, "seeds"):
            return place[2:]
    return place


def _has(value: Any, key: str) -> bool:
    return isinstance(value, Mapping) and key in value


def _at(value: Any, place: Sequence[str]) -> Any:
    for part in place:
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, Sequence) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def _explain(
    kind: type[BaseModel], item: Any, place: Place, key: str, values: Mapping[str, Any]
) -> str:
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        settings = _class_at(kind, place[:-1], values)
        known = list(settings.model_fields) if settings is not None else []
        return f"unknown key {key}{nearest(place[-1], known) or '; known: ' + ', '.join(known)}"
    if item["type"] == "missing":
        return f"{key} is missing"
    if isinstance(item["input"], (Mapping, BaseModel)):
        return f"{key}: {message}" if place else f"{key}.{message}"
    return f"{key} = {item['input']!r}: {message}"


def _class_at(
    kind: type[BaseModel], place: Place, values: Mapping[str, Any]
) -> type[BaseModel] | None:
    """The settings class at ``place`` inside ``kind``, chosen by name where values say so."""
    found: type[BaseModel] | None = kind
    for length in range(1, len(place) + 1):
        named = _named_class(place[:length], values)
        if named is not None:
            found = named
        elif found is not None and place[length - 1] in found.model_fields:
            found = _first_model(found.model_fields[place[length - 1]].annotation)
        # else a key of a dict or an index of a list: the class stays
    return found


def _named_class(place: Place, values: Mapping[str, Any]) -> type[BaseModel] | None:
    value = _at(values, place)
    if not isinstance(value, Mapping):
        return None
    try:
        found: Any = None
        if place[-1] == "model":
            name = str(value.get("backbone", DEFAULT))
            found = registry.settings_of(registry.BACKBONES, "backbone", name)
        elif place[-1] == "mask":
            found = registry.settings_of(registry.MASKS, "mask strategy", str(value.get("name")))
        elif place[:1] == ("variants",) and len(place) == 2 and "method" in value:
            found = registry.settings_of(registry.METHODS, "method", str(value["method"]))
        elif place[-1] == "settings":
            found = registry.task(str(_at(values, (*place[:-1], "task")))).settings
    except ConfigError:
        return None  # the name itself is wrong, and said so
    return typing.cast("type[BaseModel] | None", found)


def _first_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if isinstance(annotation, types.GenericAlias) and not typing.get_args(annotation):
        return None
    models = [_first_model(inner) for inner in typing.get_args(annotation)]
    return next((model for model in models if model is not None), None)
