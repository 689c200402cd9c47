"""Reading a settings file: strict YAML 1.2, with errors that name the place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import yaml

from sa3d.errors import ConfigError

try:  # libyaml reads the same, seven times as fast; few builds of PyYAML are without it
    from yaml import CSafeLoader as _SafeLoader
except ImportError:
    from yaml import SafeLoader as _SafeLoader  # type: ignore[assignment]


class _Loader(_SafeLoader):
    """Safe YAML that refuses repeated or non-text keys, and reads plain values as DVC does.

    DVC reads and writes the same file as YAML 1.2: ``on`` and ``no`` are text, 010 is ten and 0o10
    eight, 1e-3 is a number and 1:30 is none. PyYAML alone reads 1.1, where each is another.
    """

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        text = self.construct_scalar(node).replace("_", "").lower()
        plain = text.lstrip("+-")
        based = plain[:2] in ("0b", "0o", "0x")
        value = int(plain, 0) if based else int(plain)
        return -value if text.startswith("-") else value

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


_PLAIN: Final = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)", "-+0123456789"),
    "float": (
        r"[-+]?([0-9][0-9_]*\.[0-9_]*([eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+"
        r"|\.[0-9][0-9_]*([eE][-+]?[0-9]+)?|\.(inf|Inf|INF))|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
}


def _tag(kind: str) -> str:
    return f"tag:yaml.org,2002:{kind}"


_Loader.yaml_implicit_resolvers = {
    first: [(tag, how) for tag, how in found if tag not in map(_tag, _PLAIN)]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _kind, (_pattern, _first) in _PLAIN.items():
    _Loader.add_implicit_resolver(_tag(_kind), re.compile(f"^(?:{_pattern})$"), list(_first))
_Loader.add_constructor(_tag("int"), _Loader.construct_yaml_int)


_MOST_OPENED: Final = 10_000  # libyaml ends the process where some 30 000 are inside each other


def _parse(text: str) -> Any:
    """What YAML makes of a text.

    Raises:
        yaml.YAMLError: nothing, or it cannot be settings.
    """
    if text.count("[") + text.count("{") + text.count("- ") > _MOST_OPENED:
        raise yaml.YAMLError(f"it opens more than {_MOST_OPENED} lists and mappings")
    try:
        return yaml.load(text, _Loader)
    except UnicodeEncodeError as error:  # half a character, of a name that is not UTF-8
        raise yaml.YAMLError(str(error)) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a file holds.

    Raises:
        ConfigError: missing, unreadable, not YAML, a key twice, or no mapping.
    """
    try:
        tree = _parse(path.read_text(encoding="utf-8"))
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
        return _parse(text)
    except yaml.YAMLError:
        raise ValueError(f"'{text}' is not a value YAML can read") from None
