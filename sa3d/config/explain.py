"""What pydantic found wrong, in words that name the key, the value and what is allowed."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from sa3d import registry
from sa3d.config.experiment import OTHER_VARIANTS, ExperimentConfig
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
    given = bool(overrides)
    keys = [tuple(part.strip() for part in o.partition("=")[0].split(".")) for o in overrides]
    for item in _without_consequences(error.errors(include_url=False)):
        place = tuple(str(part) for part in item["loc"])
        told = _written_at(place, raw)
        said = _explain(kind, item, place, ".".join((where, *told)), values)
        problems.setdefault(_alike(told, item), said)
        unknown = item["type"] == "extra_forbidden"
        given = given and any(_set_by(told, key, unknown=unknown) for key in keys)
    return Explanation("; ".join(list(problems.values())[:_SHOWN]), "--set" if given else "")


def _without_consequences(items: Sequence[Any]) -> list[Any]:
    """Pydantic also calls a list too short when the items in it are wrong."""
    places = [item["loc"] for item in items]
    return [
        item
        for item in items
        if item["type"] != "too_short"
        or not any(len(p) > len(item["loc"]) == _shared(p, item["loc"]) for p in places)
    ]


def _shared(one: Sequence[object], other: Sequence[object]) -> int:
    """How many parts two places have in common, from the start."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _alike(place: Place, item: Any) -> Place:
    """Equal for what one mistake causes in several variants or evaluations."""
    if place[:1] in (("variants",), ("evaluate",)):
        return (place[0], *place[2:], item["type"], item["msg"])
    return place


def _set_by(place: Place, key: Place, *, unknown: bool) -> bool:
    """Whether an override set what stands at ``place``, or something that contains it.

    Of an unknown key also something inside it. Evaluations may be named by their task.
    """
    if key[:1] == ("evaluate",) == place[:1]:
        key, place = (*key[:1], *key[2:]), (*place[:1], *place[2:])
    shared = _shared(place, key)
    return bool(place) and (shared == len(key) or (unknown and shared == len(place)))


def _written_at(place: Place, raw: Mapping[str, Any]) -> Place:
    """Where a user wrote what stands at ``place`` of the complete settings."""
    if len(place) < 3 or _has(raw, place):
        return place
    if place[0] == "variants":
        shared = ("pretrain", *place[2:])
    elif place[0] == "evaluate":
        shared = ("pretrain", *place[2:]) if place[2] == "data" else place[2:]
    else:
        return place
    return shared if _has(raw, shared) else place


def _has(value: Any, place: Place) -> bool:
    """Whether something was written at ``place``, or one value for all that contains it."""
    for length, part in enumerate(place):
        inside = _at(value, place[:length])
        if isinstance(inside, Mapping) and part not in inside:
            return False
    return True


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
        return f"{key}: {message}"
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
        elif place[:1] == ("variants",) and len(place) == 2:
            found = next((OTHER_VARIANTS[key] for key in value if key in OTHER_VARIANTS), None)
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
