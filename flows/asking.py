"""Asking Prefect's API from a flow that must stay awake for signals."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import httpx
from prefect import runtime
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

_TIMEOUT_SECONDS = 10.0
_AWAY = (408, 429, 500, 502, 503, 504)
_LOOK_SECONDS = 5.0


class ServerAwayError(Exception):
    """Prefect's server does not answer now; the same may be asked again."""


@contextmanager
def asking_once() -> Iterator[SyncPrefectClient]:
    """A client that asks once: its own retries would keep the flow from reading signals.

    Raises:
        ServerAwayError: no answer, or one that says to ask again.
    """
    try:
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client({"timeout": _TIMEOUT_SECONDS}, sync_client=True) as client,
        ):
            yield client
    except httpx.HTTPStatusError as error:
        if error.response.status_code in _AWAY:
            raise ServerAwayError(f"HTTP {error.response.status_code}") from error
        raise
    except httpx.TransportError as error:
        raise ServerAwayError(type(error).__name__) from error


class Cancellation:
    """Whether somebody has cancelled the current flow run in Prefect.

    A worker sends a signal to the process of a cancelled run. A flow that was started without a
    worker has to ask.
    """

    def __init__(self) -> None:
        by_worker = runtime.deployment.id is not None
        self._run = None if by_worker else UUID(str(runtime.flow_run.id))
        self._next_look = time.monotonic() + _LOOK_SECONDS

    def asked(self) -> bool:
        """Whether it was; true once."""
        if self._run is None or time.monotonic() < self._next_look:
            return False
        self._next_look = time.monotonic() + _LOOK_SECONDS
        try:
            with asking_once() as client:
                state = client.read_flow_run(self._run).state
        except ServerAwayError:
            return False  # asked again at the next look
        if state is None or not (state.is_cancelling() or state.is_cancelled()):
            return False
        self._run = None
        return True
