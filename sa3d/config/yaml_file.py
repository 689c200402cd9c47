"""Reading a settings file: strict YAML, with errors that name the place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from sa3d.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads ``1e-3`` as a number and refuses repeated or non-text keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue  # `<<: *shared`
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                said = f"the key {key!r} is not text; put it in quotes"
                raise yaml.constructor.ConstructorError(None, None, said, key_node.start_mark)
            if key in seen:
                said = f"the key '{key}' occurs twice in one mapping"
                raise yaml.constructor.ConstructorError(None, None, said, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


# YAML 1.1 asks for a dot and a sign in 1.0e-3; DVC writes YAML 1.2, where 1e-3 is a number too
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a file holds.

    Raises:
        ConfigError: missing, unreadable, not YAML, a key twice, or no mapping.
    """
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise ConfigError(
            f"no {path} in {Path.cwd()}: run from the project's root or give --params FILE"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds {type(tree).__name__}, not a mapping of settings")
    return tree


def read_value(text: str) -> Any:
    """One value, as it would be read from a file; text where it is no other value.

    Raises:
        ValueError: not YAML.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError:
        raise ValueError(f"'{text}' is not a value YAML can read") from None
