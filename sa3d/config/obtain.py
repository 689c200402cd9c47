"""How a processed data set is obtained, for messages."""

from __future__ import annotations

import shlex

from sa3d.config.yaml_file import read_yaml
from sa3d.utils import paths


def how_to_make(name: str) -> str:
    """What to do where the processed file of data set ``name`` is missing.

    Raises:
        ConfigError: ``params.yaml`` cannot be read, so that nobody knows.
    """
    return _advice(name, "make it with", "put a file of the processed layout there")


def how_to_replace(name: str) -> str:
    """What to do where the processed file of data set ``name`` is of no use.

    Raises:
        ConfigError: as :func:`how_to_make`.
    """
    return _advice(
        name, "delete it and make it again with", "replace it by a whole file of the layout"
    )


def _advice(name: str, make: str, put: str) -> str:
    params = paths.params_file()
    sources = (read_yaml(params).get("datasets") or {}) if params.is_file() else {}
    if name not in sources:
        others = f" (but of {', '.join(sources)})" if sources else ""  # the name may be mistyped
        return (
            f"{paths.shown(params)} names no source that makes it{others}: {put}; see "
            "data/README.md"
        )
    stage, quoted = shlex.quote(f"prepare@{name}"), shlex.quote(name)
    return f"{make} `dvc repro {stage}` (or `sa3d data prepare {quoted}`)"
