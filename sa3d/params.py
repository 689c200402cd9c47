"""Reading ``params.yaml``: inheritance, ``--set`` overrides, and errors a user can act on."""

from __future__ import annotations

import shlex
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from sa3d.components import nearest
from sa3d.config import ExperimentConfig, Source, settings_class
from sa3d.errors import ConfigError
from sa3d.model_config import DEFAULT
from sa3d.paths import params_file, processed


def load_experiment(
    name: str, path: Path | None = None, overrides: Sequence[str] = ()
) -> ExperimentConfig:
    """Experiment ``name`` of ``params.yaml`` with ``section.key=value`` overrides applied.

    Raises:
        ConfigError: unknown experiment, key or value, or an unreadable file.
    """
    path = path or params_file()
    tree = _section(_read(path), "experiments", path)
    values = _inherited(tree, name, path)
    values = _override(values, overrides)
    own, method = values.get("baseline"), values.get("pretrain")
    if isinstance(own, dict) and isinstance(method, dict):
        values["baseline"] = _merge(_shared(method, own), own)
    values["name"] = name
    where = f"experiments.{name}"
    found: ExperimentConfig = _validate(ExperimentConfig, values, where, path, overrides)
    return found


def require_data(config: ExperimentConfig, path: Path | None = None) -> None:
    """That the experiment's data set is there, or at least can be made.

    Raises:
        ConfigError: neither processed data nor an entry under ``datasets``.
    """
    name = config.data.name
    if processed(name).is_file():
        return
    known = source_names(path)
    if name not in known:
        raise ConfigError(
            f"data.name={name}: nothing here makes that data set, and there is no "
            f"{processed(name)}; put one there, or choose of {', '.join(known)} as in "
            f"--set {shlex.quote(f'data.name={known[0]}')}"
        )


def load_source(name: str, path: Path | None = None, overrides: Sequence[str] = ()) -> Source:
    """Data source ``name`` of ``params.yaml``.

    Raises:
        ConfigError: as :func:`load_experiment`.
    """
    path = path or params_file()
    tree = _section(_read(path), "datasets", path)
    if name not in tree:
        raise ConfigError(
            f"no data set '{name}' in {path}{nearest(name, tree)}; there are: "
            f"{', '.join(sorted(tree))}"
        )
    source = _override(dict(tree[name]), overrides)
    found: Source = _validate(Source, source, f"datasets.{name}", path, overrides)
    return found


def experiment_names(path: Path | None = None) -> list[str]:
    """All experiments of ``params.yaml``, in the file's order."""
    path = path or params_file()
    return list(_section(_read(path), "experiments", path))


def source_names(path: Path | None = None) -> list[str]:
    """All data sets of ``params.yaml``, in the file's order."""
    path = path or params_file()
    return list(_section(_read(path), "datasets", path))


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"no {path} in {Path.cwd()}: run from the project's root or give --params FILE"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        first = " ".join(str(error).split())
        raise ConfigError(f"cannot read {path}: {first}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds {type(tree).__name__}, not a mapping of settings")
    return tree


def _section(tree: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
    section = tree.get(key)
    if not isinstance(section, dict):
        raise ConfigError(f"{path} has no mapping `{key}`")
    return section


def _inherited(tree: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    """Values of an experiment over those it ``extends``, to any depth."""
    seen: list[str] = []
    layers: list[dict[str, Any]] = []
    current: str | None = name
    while current is not None:
        if current in seen:
            raise ConfigError(f"{path}: experiments extend each other: {' -> '.join(seen)}")
        if not isinstance(tree.get(current), dict):
            raise ConfigError(
                f"no experiment '{current}' in {path}{nearest(current, tree)}; there are: "
                f"{', '.join(tree)}"
            )
        seen.append(current)
        layer = dict(tree[current])
        current = layer.pop("extends", None)
        layers.append(layer)
    values: dict[str, Any] = {}
    for layer in reversed(layers):
        values = _merge(values, layer)
    return values


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        if key == "model" and _another_backbone(merged.get(key), value):
            merged[key] = value  # the settings of one backbone mean nothing to another
        elif isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def _another_backbone(before: Any, after: Any) -> bool:
    """Whether ``after`` names a backbone that ``before`` is not of."""
    if not (isinstance(before, dict) and isinstance(after, dict) and "backbone" in after):
        return False
    return bool(after["backbone"] != before.get("backbone", DEFAULT))


def _shared(pretrain: Mapping[str, Any], baseline: Mapping[str, Any]) -> dict[str, Any]:
    """What the baseline inherits: everything but what only the method itself may set, and
    not the mask count when the baseline gives it in the other form."""
    drop = {"point_term"}
    if "mask_ratio" in baseline or "masked" in baseline:
        drop |= {"mask_ratio", "masked"}
    return {key: value for key, value in pretrain.items() if key not in drop}


def _override(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    layers: list[dict[str, Any]] = []
    for item in overrides:
        key, equals, text = item.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {item}: expected section.key=value, as in pretrain.lr=0.001")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(f"--set {item}: '{text}' is not a value YAML can read") from None
        if isinstance(value, str):
            try:  # YAML 1.1 reads 1e-3 as text
                value = float(value)
            except ValueError:
                value = text
        for part in reversed(key.strip().split(".")):
            value = {part: value}
        layers.append(value)
    # another backbone clears the settings of the one before: it must not clear overrides
    layers.sort(key=lambda layer: "backbone" not in (_mapping(layer.get("model")) or ()))
    for layer in layers:
        values = _merge(values, layer)
    return values


def _mapping(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def _validate(kind: Any, values: Any, where: str, path: Path, overrides: Sequence[str] = ()) -> Any:
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        items = error.errors(include_url=False)
    places = [tuple(item["loc"]) for item in items]
    # the baseline takes over what is wrong in `pretrain`: said once
    own = [
        item
        for item, place in zip(items, places, strict=True)
        if not (place[:1] == ("baseline",) and ("pretrain", *place[1:]) in places)
    ]
    keys = {item.partition("=")[0].strip() for item in overrides}
    given = all(".".join(map(str, item["loc"])) in keys for item in own)
    lines = [_explain(kind, item, where, values) for item in own]
    raise ConfigError(f"{'--set' if given else path}: " + "; ".join(lines[:3])) from None


def _explain(kind: Any, item: Any, where: str, values: Mapping[str, Any]) -> str:
    location = inner = [str(part) for part in item["loc"]]
    if location[:1] == ["model"] and location[1:] not in ([], ["backbone"]):
        kind, inner = settings_class(values["model"]), location[1:]
    model = _model_at(kind, inner[:-1])
    key = ".".join([where, *location])
    if item["type"] == "extra_forbidden" and model is not None:
        known = list(model.model_fields)
        hint = nearest(location[-1], known) or f"; known: {', '.join(known)}"
        return f"unknown key {key}{hint}"
    if item["type"] == "missing":
        return f"{key} is missing"
    message = item["msg"].removeprefix("Value error, ")
    if isinstance(item["input"], dict):
        return f"{key}: {message}"
    return f"{key} = {item['input']!r}: {message}"


def _model_at(kind: Any, location: Sequence[str]) -> type[BaseModel] | None:
    """The settings class that a path inside ``kind`` leads to, through unions."""
    candidates = _models(kind)
    for part in location:
        below: list[type[BaseModel]] = []
        for model in candidates:
            if part in model.model_fields:
                below += _models(model.model_fields[part].annotation)
        tagged = [m for m in candidates if part in _tags(m)]
        candidates = below or tagged or candidates
    return candidates[0] if candidates else None


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if isinstance(annotation, types.GenericAlias):
        return []
    return [found for inner in typing.get_args(annotation) for found in _models(inner)]


def _tags(model: type[BaseModel]) -> set[str]:
    return {
        str(value)
        for field in model.model_fields.values()
        for value in typing.get_args(field.annotation)
        if isinstance(value, str)
    }
