"""Forms as commands: every field an option, so that form and command line cannot differ.

``--mask-ratio 0.7`` is the field ``mask_ratio``; a list is written with commas, a mapping as
``KEY=VALUE`` once for each key. Bounds and choices are those of the form.
"""

from __future__ import annotations

import inspect
import json
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from flows.command_line import Command, plain_app
from flows.forms.base import Form, RunningForm, ordered
from sa3d.config.yaml_file import read_value
from sa3d.errors import ConfigError
from sa3d.utils.paths import give_params

F = typing.TypeVar("F", bound=Form)
# where an option is not called as its field
_OPTIONS: Final = {"settings": "--set"}
_SHORT: Final = {"quiet": ("-q",)}
_METAVARS: Final = {"settings": "KEY=VALUE", "grid": "KEY=VALUE,VALUE"}
_HELP: Final = {
    "settings": "Override a setting; may be repeated.",
    "grid": "Values of any other setting, as model.depth=4,8; may be repeated.",
    "params": "Settings file. [default: params.yaml]",
    "out": "Report folder. [default: one in reports/, named after what is run]",
}
_STATUS: Final = (
    "What is finished is reused. Exit status: 0, every run finished; 1, some failed; 2, refused; "
    "128 + signal, stopped."
)


def command_app(name: str, kind: type[F], act: Callable[[str, F], int]) -> typer.Typer:
    """The application behind ``python -m flows.NAME``.

    Args:
        name: of the flow.
        kind: its form. Its first required field is given as an argument, the others as options.
        act: what is done with the form; returns the exit status.
    """
    argument = argument_of(kind)

    def command(**given: Any) -> None:
        sys.exit(act(name, read(kind, given)))

    fields = {name: kind.model_fields[name] for name in ordered(kind.model_fields)}
    parameters = [
        inspect.Parameter(
            field,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field == argument else _default(facts),
            annotation=_annotation(field, facts, argument),
        )
        for field, facts in fields.items()
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    app = plain_app()
    said = inspect.getdoc(kind) or ""
    if issubclass(kind, RunningForm):
        said += f"\n\n{_STATUS}"
    app.command(cls=Command, help=said)(command)
    return app


def argument_of(kind: type[Form]) -> str:
    """The field that is given without an option: the one that is required."""
    (found,) = (name for name, facts in kind.model_fields.items() if facts.is_required())
    return found


def read(kind: type[F], given: Mapping[str, Any]) -> F:
    """A form out of the values of a command line.

    Raises:
        ConfigError: a value that the form refuses; with its option.
    """
    values = {name: _value(kind.model_fields[name], name, text) for name, text in given.items()}
    try:
        return kind.model_validate({k: v for k, v in values.items() if v is not None})
    except ValidationError as error:
        item = error.errors(include_url=False)[0]
        field = str(item["loc"][0])
        said = item["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{option(field)} {item['input']}: {said}") from None


def words_of(form: Form) -> list[str]:
    """``flows.NAME`` and the words after it that make this very form."""
    kind = type(form)
    argument = argument_of(kind)
    words = [f"flows.{kind.__name__.removesuffix('Form').lower()}", str(getattr(form, argument))]
    for name, facts in kind.model_fields.items():
        value = getattr(form, name)
        if name == argument or value == facts.get_default(call_default_factory=True):
            continue
        words += _words(name, value, lists=_holds_lists(facts))
    return words


def _words(name: str, value: Any, *, lists: bool) -> list[str]:
    if value is True:
        return [option(name)]
    if isinstance(value, tuple):
        return [option(name), ",".join(map(str, value))]
    if isinstance(value, Mapping):
        pairs = [f"{key}={_text(each, lists=lists)}" for key, each in value.items()]
        return [word for pair in pairs for word in (option(name), pair)]
    return [option(name), str(value)]


def _text(value: Any, *, lists: bool) -> str:
    """A value behind ``KEY=``; values with commas between them where ``lists``."""
    if isinstance(value, str):
        return value
    return json.dumps(value)[1:-1] if lists else json.dumps(value)


def _holds_lists(facts: FieldInfo) -> bool:
    """Whether a field is a mapping of lists."""
    kind = _kind(facts)
    inner = typing.get_args(kind)
    return typing.get_origin(kind) is dict and typing.get_origin(inner[1]) is list


def option(field: str) -> str:
    """The option of a field."""
    return _OPTIONS.get(field, f"--{field.replace('_', '-')}")


def _kind(facts: FieldInfo) -> Any:
    """The type of a field's values, without None."""
    kind = facts.annotation
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        (kind,) = (each for each in typing.get_args(kind) if each is not type(None))
    return typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind


def _annotation(field: str, facts: FieldInfo, argument: str) -> Any:
    """A parameter of typer's for a field."""
    kind = _kind(facts)
    origin = typing.get_origin(kind)
    said = _HELP.get(field) or _sentence(facts.description or "")
    if field == argument:
        return Annotated[str, typer.Argument(metavar="NAME", help=said, show_default=False)]
    shown: dict[str, Any] = {"help": said, "metavar": _METAVARS.get(field)}
    own: Any
    if kind is bool:
        return Annotated[bool, typer.Option(option(field), *_SHORT.get(field, ()), help=said)]
    if origin is Literal:
        return Annotated[kind, typer.Option(option(field), **shown)]
    if origin is dict:
        own = list[str] | None
    elif origin is tuple:
        own, shown["metavar"] = str | None, "VALUE,VALUE"
    elif kind is Path:
        own, shown["callback"] = Path | None, give_params
    elif kind in (int, float):
        own = kind | None
    else:
        own = str | None
    return Annotated[own, typer.Option(option(field), show_default=False, **shown)]


def _default(facts: FieldInfo) -> Any:
    found = facts.get_default(call_default_factory=True)
    return found if isinstance(found, (bool, str)) and found != "" else None


def _value(facts: FieldInfo, name: str, given: Any) -> Any:
    """A field's value out of what typer read."""
    origin = typing.get_origin(_kind(facts))
    if given is None or given == []:
        return None
    if origin is tuple:
        return _list(name, given)
    if origin is dict:
        return _mapping(name, given, lists=_holds_lists(facts))
    return given


def _mapping(name: str, given: Sequence[str], *, lists: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in given:
        key, equals, text = item.partition("=")
        if not equals:
            raise ConfigError(
                f"{option(name)} {item}: expected section.key=value, as in pretrain.lr=0.001"
            )
        found[key.strip()] = _list(name, text) if lists else text
    return found


def _list(name: str, text: str) -> list[Any]:
    """The values between the commas, each read as in ``params.yaml``."""
    try:
        found = read_value(f"[{text}]")
    except ValueError as error:
        raise ConfigError(f"{option(name)} {text}: {error}") from None
    assert isinstance(found, list)
    return found


def _sentence(text: str) -> str:
    """A description of a field as help of a command: with a full stop, and with a capital unless
    it begins with what is typed, such as ``models:/NAME``."""
    first = text.split(" ", 1)[0]
    begin = text[:1].upper() if first.rstrip(",;").isalpha() else text[:1]
    return f"{begin}{text[1:]}." if text else ""
