"""Templates and numbers as the files of a report."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent / "templates"


def _unbroken(value: Any) -> Any:
    """Keep a number and its unit on one line, and 5-NN too; markup passes as it is."""
    if type(value) is not str:
        return value
    value = re.sub(r"(?<=\d)-(?=NN\b|fold\b)", "\u2011", value)
    return re.sub(r"(?<=\d) (?=(%|s|min|h|points|\d{3})(?!\w))", "\u00a0", value)


def as_json(tree: dict[str, Any]) -> bytes:
    """A tree as the content of a file."""
    return (json.dumps(tree, indent=2) + "\n").encode()


def render(name: str, context: dict[str, Any]) -> bytes:
    """A template of ``templates/`` filled in, as the content of a file."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=".html" in name,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_unbroken if ".html" in name else None,
    )
    # text inside a Markdown table must not open a new cell, line or tag
    environment.filters["cell"] = lambda text: (
        str(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
    )
    # as GitHub makes the anchor of a heading
    environment.filters["anchor"] = lambda text: re.sub(
        r"\s", "-", re.sub(r"[^\w\s-]", "", str(text)).strip().lower()
    )
    return (environment.get_template(name).render(context).rstrip() + "\n").encode("utf-8")
