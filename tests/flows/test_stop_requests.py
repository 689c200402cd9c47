"""How often a flow has been asked to stop: a second time means to end its runs at once."""

from __future__ import annotations

import os
import signal

from flows.signals import StopRequests


def me(*numbers: int) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


def test_a_closed_terminal_asks_once_though_it_sends_two_signals() -> None:
    requests = StopRequests()
    with requests.listen():
        me(signal.SIGHUP, signal.SIGTERM)
    assert (requests.count, requests.first) == (1, signal.SIGHUP)


def test_ctrl_c_after_any_signal_asks_again() -> None:
    for first in (signal.SIGTERM, signal.SIGINT):
        requests = StopRequests()
        with requests.listen():
            me(first, signal.SIGINT)
        assert (requests.count, requests.first) == (2, first)


def test_a_cancellation_in_prefect_after_a_signal_asks_no_more() -> None:
    requests = StopRequests()
    with requests.listen():
        me(signal.SIGTERM)
        requests.note(signal.SIGTERM)
    assert requests.count == 1


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGHUP)
    with StopRequests().listen():
        assert signal.getsignal(signal.SIGHUP) != before
    assert signal.getsignal(signal.SIGHUP) == before
