"""Switches off the usage statistics that libraries would send."""

from __future__ import annotations

import os
from pathlib import Path

from sa3d.errors import UserError


def disable_telemetry() -> None:
    """Load ``docker/quiet.env`` into the environment; what is set already stays.

    A link beside this module brings the file into the wheel. Must come before the first import of
    Prefect or MLflow, which read it once.

    Raises:
        UserError: when the file is missing: the package was copied without what its links name.
    """
    path = Path(__file__).with_name("quiet.env")
    if not path.is_file():
        raise UserError(f"no {path}: install the wheel, or run from a complete checkout")
    for line in path.read_text(encoding="utf-8").splitlines():
        name, equals, value = line.partition("=")
        if equals and not name.startswith("#"):
            os.environ.setdefault(name.strip(), value.strip())
