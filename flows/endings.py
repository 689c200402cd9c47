"""How a flow ends: what it says of its end, also where Prefect cannot be told."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

_FEW_RETRIES = 2  # 2 and 4 seconds apart; Prefect's five take a minute, and it does that twice
_settings = ExitStack()  # never left: they hold until this process ends
_summary: dict[str, Any] | None = None


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


def remembered(state: State[Any], stopped: bool) -> State[Any]:
    """The state in which a flow ends, kept for :func:`summary` too.

    Args:
        state: its data is the summary, or a :class:`NotCompleted` with it.
        stopped: whether the flow was asked to stop: then it does not wait long for a server that
            is away.
    """
    global _summary
    data: Any = state.data
    _summary = data.summary if isinstance(data, NotCompleted) else data
    if stopped:
        from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

        _settings.enter_context(temporary_settings({PREFECT_CLIENT_MAX_RETRIES: _FEW_RETRIES}))
    return state


def summary() -> dict[str, Any] | None:
    """What the flow of this process said of its end; None: it has not come to one."""
    return _summary


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
