"""Flows of a checkout whose stack is up report to its servers."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from flows.stack import record
from flows.stack.record import MLFLOW, PREFECT

_VARIABLES: Final = {PREFECT: ("PREFECT_API_URL", "/api"), MLFLOW: ("MLFLOW_TRACKING_URI", "")}


def use_stack(say: Callable[[str], None]) -> None:
    """Point this process at the servers of the stack, where it is up; and say so.

    A variable that is set already stays. Of a stack that was started and whose server has died,
    that is said, and the flow goes without it as it would without a stack.

    Args:
        say: told in one line for the servers that are used, and one for each that has died.

    Raises:
        UserError: the record of the stack cannot be read.
    """
    stack = record.read()
    if stack is None:
        return
    used = []
    for name, (variable, path) in _VARIABLES.items():
        if os.environ.get(variable) or stack.part(name) is None:
            continue
        if stack.living(name) is None:
            say(
                f"the stack's {name} server has died and is not used; "
                "`python -m flows.stack up` starts it again"
            )
            continue
        os.environ[variable] = f"{stack.address(name)}{path}"
        used.append(f"{name} {stack.address(name)}")
    if used:
        say(f"using the stack that is up here: {', '.join(used)}")
