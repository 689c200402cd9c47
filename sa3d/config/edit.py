"""Entries added to ``params.yaml`` without touching a line that is there.

The new lines are written as DVC's own tools write the file (ruamel.yaml, block style), so that
``dvc exp run -S``, which writes the whole file anew, changes none of them.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import yaml

from sa3d.config.yaml_file import read_value
from sa3d.errors import ConfigError


def with_entry(
    text: str, section: str, name: str, values: Mapping[str, Any], *, gap: bool = False
) -> str:
    """The text of a settings file with one more entry, the last of a section.

    Args:
        text: of the file.
        section: a top-level key whose value is a mapping in block style.
        name: key of the entry; not there yet.
        values: its content.
        gap: a blank line before it.

    Raises:
        ConfigError: no such section, or one that a line cannot be added to; with the lines to add
            by hand.
    """
    entry = dumped({name: dict(values)})
    end, indent = _end_of(text, section, entry)
    lines = text.splitlines(keepends=True)
    if not lines[end - 1].endswith("\n"):
        lines[end - 1] += "\n"
    added = ["\n"] * gap + [f"{' ' * indent}{line}" for line in entry.splitlines(keepends=True)]
    result = "".join(lines[:end] + added + lines[end:])
    expected = read_value(text)
    expected[section][name] = read_value(entry)[name]
    if read_value(result) != expected:
        raise _by_hand(section, entry)
    return result


def dumped(values: Mapping[str, Any]) -> str:
    """Settings as text, in the style in which DVC writes them."""
    from ruamel.yaml import YAML

    writer = YAML()
    writer.default_flow_style = False
    writer.representer.ignore_aliases = lambda data: True  # what stands twice is written twice
    stream = io.StringIO()
    writer.dump(dict(values), stream)
    return stream.getvalue()


def _end_of(text: str, section: str, entry: str) -> tuple[int, int]:
    """The number of the line after the section's last one that says something, and the column of
    its keys."""
    node = yaml.compose(text, yaml.SafeLoader)
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    value = next((value for key, value in pairs if key.value == section), None)
    if not isinstance(value, yaml.MappingNode) or value.flow_style or not value.value:
        raise _by_hand(section, entry)
    indent = value.value[0][0].start_mark.column
    last: yaml.Node = value
    while isinstance(last, (yaml.MappingNode, yaml.SequenceNode)) and not last.flow_style:
        # the end of a collection is where the next one begins, behind comments
        items = last.value
        if not items:
            break
        last = items[-1][1] if isinstance(last, yaml.MappingNode) else items[-1]
    mark = last.end_mark
    # a block of text ends at the beginning of the line after it
    return mark.line + (1 if mark.column else 0), indent


def _by_hand(section: str, entry: str) -> ConfigError:
    return ConfigError(
        f"cannot add to `{section}` of params.yaml as it is written; add there by hand:\n{entry}"
    )
