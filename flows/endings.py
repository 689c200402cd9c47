"""How a flow ends that did not complete, without a traceback for what was already said in words."""

from __future__ import annotations

import logging
from typing import Any, Final


class NotCompleted(Exception):  # noqa: N818  # a flow that was stopped is no error
    """What the state of a flow holds that was refused, failed or was stopped.

    A worker's process gets it from Prefect as an exception, and has nothing to do with it.

    Args:
        message: that of the state.
        summary: what the command line tells.
    """

    def __init__(self, message: str, summary: dict[str, Any]) -> None:
        super().__init__(message, summary)
        self.summary: Final = summary

    def __str__(self) -> str:
        return str(self.args[0])


class _Said(logging.Filter):
    """Leaves out what repeats a state with a traceback, or with none ("NoneType: None").

    Prefect logs every state with its message; then, in a worker's process, the exception in the
    state, and of a task the state once more.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """See the base class."""
        if not record.exc_info:
            return True
        error = record.exc_info[1]
        return error is not None and not isinstance(error, NotCompleted)


def say_once() -> None:
    """Leave out of the logs of Prefect's runs what was said before."""
    for name in ("prefect.flow_runs", "prefect.task_runs", "prefect.engine"):
        logger = logging.getLogger(name)
        if not any(isinstance(each, _Said) for each in logger.filters):
            logger.addFilter(_Said())
