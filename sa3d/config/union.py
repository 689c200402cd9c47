"""Settings whose class is chosen by a name inside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from sa3d import registry
from sa3d.errors import ConfigError


def by_name(
    value: object,
    table: Mapping[str, registry.Component | registry.Architecture],
    kind: str,
    *,
    key: str,
    default: str | None = None,
) -> object:
    """A mapping read as the settings of the component that its ``key`` names.

    For use in a pydantic ``BeforeValidator``; anything but a mapping is left to pydantic.

    Raises:
        ValidationError: an unknown name, with ``key`` as its place; or what the settings class
            finds.
    """
    if not isinstance(value, Mapping):
        return value
    name = value.get(key, default)
    if name is None:
        raise _at(key, PydanticCustomError("missing", "Field required"), value)
    try:
        settings: type[BaseModel] = registry.settings_of(table, kind, str(name))
    except ConfigError as error:
        said = PydanticCustomError("unknown_name", "{said}", {"said": str(error)})
        raise _at(key, said, name) from None
    return settings.model_validate(value)


def _at(key: str, error: PydanticCustomError, value: Any) -> ValidationError:
    line = InitErrorDetails(type=error, loc=(key,), input=value)
    return ValidationError.from_exception_data("settings", [line])
