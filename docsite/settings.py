"""The reference of settings, read from their classes: key, values, default, meaning."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from typing import Any, Final, NamedTuple

from pydantic import BaseModel

from sa3d import registry
from sa3d.config.data import DataConfig
from sa3d.config.endless import EndlessSource
from sa3d.config.experiment import OTHER_VARIANTS, Evaluation, ExperimentConfig, PretrainConfig
from sa3d.config.gate import GateConfig
from sa3d.masking.settings import MaskConfig
from sa3d.methods.settings import MethodConfig
from sa3d.models.settings import BackboneConfig
from sa3d.tasks.base import TaskConfig

Model = type[BaseModel]
Schema = dict[str, Any]


class Table(NamedTuple):
    """One settings class under a heading; ``names`` is what selects it in ``params.yaml``."""

    heading: str
    model: Model


class Page(NamedTuple):
    """One page of tables."""

    name: str
    title: str
    introduction: str
    tables: list[Table]


_ANY: Final = {  # a setting whose class is chosen by a name in it: where the choices are
    BackboneConfig: "backbones",
    MethodConfig: "methods",
    MaskConfig: "masks",
    TaskConfig: "tasks",
    EndlessSource: "sources",
}


def _components(table: Any, kind: str) -> list[Table]:
    return [Table(f"`{name}`", registry.settings_of(table, kind, name)) for name in table]


def pages() -> list[Page]:
    """Every settings class of ``params.yaml``, the classes inside others with those."""
    tasks = [Table(f"`{name}`", registry.task(name).settings) for name in registry.downstream()]
    others = [Table(f"A variant with `{key}`", model) for key, model in OTHER_VARIANTS.items()]
    found = [
        Page(
            "experiment",
            "An experiment",
            "An entry under `experiments`: how encoders are made and what each is evaluated on.",
            [
                Table("The experiment", ExperimentConfig),
                Table("`pretrain`", PretrainConfig),
                Table("`data`", DataConfig),
                Table("One of `evaluate`", Evaluation),
                *others,
            ],
        ),
        Page(
            "backbones",
            "Backbones",
            "`model`: the architecture, chosen by `backbone`.",
            _components(registry.BACKBONES, "backbone"),
        ),
        Page(
            "methods",
            "Methods",
            "A variant with `method`: how it is pre-trained. What all methods share may stand "
            "once, under `pretrain` of the experiment.",
            _components(registry.METHODS, "method"),
        ),
        Page(
            "masks",
            "Mask strategies",
            "`mask` of a method: a name alone, or a mapping with the strategy's settings.",
            _components(registry.MASKS, "mask strategy"),
        ),
        Page("tasks", "Tasks", "`settings` of an evaluation, chosen by its `task`.", tasks),
        Page(
            "sources",
            "Data sources",
            "An entry under `datasets`, chosen by its `source`.",
            _components(registry.SOURCES, "data source"),
        ),
        Page(
            "gate",
            "The gate",
            "`gate`: when a registered model becomes the champion.",
            [Table("The gate", GateConfig)],
        ),
    ]
    return [page._replace(tables=list(_with_inner(page.tables))) for page in found]


def _with_inner(tables: list[Table]) -> Iterator[Table]:
    """The tables, each followed by those of classes that only it uses."""
    known = {table.model for table in tables} | set(_ANY) | {DataConfig, Evaluation, PretrainConfig}
    for table in tables:
        yield table
        waiting = [table.model]
        while waiting:
            for key, inner in _inner(waiting.pop()):
                if inner not in known:
                    known.add(inner)
                    waiting.append(inner)
                    yield Table(f"`{key}`", inner)


def _inner(model: Model) -> Iterator[tuple[str, Model]]:
    for key, facts in model.model_fields.items():
        for found in _models(facts.annotation):
            yield key, found


def _models(annotation: Any) -> Iterator[Model]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _models(inner)


def text(page: Page) -> str:
    """The page itself."""
    places = {model.__name__: (kind, f"{kind}.md") for model, kind in _ANY.items()}
    for table in page.tables:
        heading = table.heading.replace("`", "")
        places[table.model.__name__] = (heading, f"#{heading.lower().replace(' ', '-')}")
    lines = [f"# {page.title}", "", page.introduction, ""]
    for table in page.tables:
        first = (table.model.__doc__ or "").strip().split("\n\n")[0]
        lines += [f"## {table.heading}", "", " ".join(_plain(first).split()), ""]
        lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
        lines += _rows(table.model, places)
        lines.append("")
    return "\n".join(lines)


def _plain(docstring: str) -> str:
    """Python's names without the marks that point to them, and code as Markdown has it."""
    return re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", docstring).replace("``", "`")


Places = dict[str, tuple[str, str]]  # of a settings class by its name: heading, link


def _rows(model: Model, places: Places) -> Iterator[str]:
    schema = model.model_json_schema(mode="validation")
    value = partial(_value, defs=schema.get("$defs", {}), places=places)
    for key, facts in model.model_fields.items():
        own = schema["properties"][key]
        default = "required" if facts.is_required() else _default(own.get("default", None))
        yield f"| `{key}` | {value(own)} | {default} | {_cell(facts.description or '')} |"


def _default(value: Any) -> str:
    if value == "":
        return "empty"
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"`{shown}`"


def _value(schema: Schema, *, defs: Schema, places: Places) -> str:
    """What may be given, in words."""
    inside = partial(_value, defs=defs, places=places)
    if "anyOf" in schema:
        return " or ".join(map(inside, schema["anyOf"]))
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return "[{}]({})".format(*places[name]) if name in places else inside(defs[name])
    if "const" in schema:
        return f"`{json.dumps(schema['const']) if schema['const'] is True else schema['const']}`"
    if "enum" in schema:
        return " ".join(f"`{each}`" for each in schema["enum"])
    said = _KINDS.get(schema.get("type", ""), "anything")
    if "prefixItems" in schema:
        each = [inside(item) for item in schema["prefixItems"]]
        said = f"list of {len(each)}: {', '.join(each)}"
    elif schema.get("items"):
        said = f"list, each {inside(schema['items'])}"
    for values in (
        schema.get("additionalProperties"),
        *schema.get("patternProperties", {}).values(),
    ):
        if isinstance(values, dict) and values.keys() - {"type"}:
            said = f"mapping, each {inside(values)}"
    return f"{said}{_bounds(schema)}"


_KINDS: Final = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "`true` `false`",
    "null": "`null`",
    "object": "mapping",
    "array": "list",
}
_POWERS: Final = {2**31: "2³¹", 2**32: "2³²"}
_BOUNDS: Final = {
    "exclusiveMinimum": "> {}",
    "minimum": "≥ {}",
    "exclusiveMaximum": "< {}",
    "maximum": "≤ {}",
    "minLength": "not empty",
}


def _bounds(schema: Schema) -> str:
    found = [
        said.format(_POWERS.get(schema[key], f"{schema[key]:g}"))
        for key, said in _BOUNDS.items()
        if key in schema
    ]
    return f" {', '.join(found)}" if found else ""


def _cell(said: str) -> str:
    return said.replace("|", "\\|").replace("\n", " ")
