"""Which signals are noted by a training, and what a second one does."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from sa3d.engine.signals import Stopped, StopSignals

ALL = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Handlers as a process has them that was started in a terminal; afterwards as before."""
    before = {number: signal.getsignal(number) for number in ALL}
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def me(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "code"), [(ALL[0], 143), (ALL[1], 130), (ALL[2], 129)])
def test_the_first_is_noted_and_says_how_the_process_ends(number: int, code: int) -> None:
    with StopSignals() as signals:
        me(number)
        assert signals.signum == number
    assert Stopped(signals.signum).exit_code == code


def test_a_dying_flow_sends_two_and_the_training_still_saves() -> None:
    with StopSignals() as signals:
        me(signal.SIGTERM)
        me(signal.SIGTERM)
        me(signal.SIGHUP)
        assert signals.signum == signal.SIGTERM


def test_ctrl_c_a_second_time_does_not_wait() -> None:
    with StopSignals() as signals:
        me(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            me(signal.SIGINT)
        assert signals.signum == signal.SIGINT


def test_under_nohup_a_closed_terminal_changes_nothing() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with StopSignals() as signals:
        me(signal.SIGHUP)
        assert signals.signum == 0
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_afterwards_handlers_are_as_before() -> None:
    before = {number: signal.getsignal(number) for number in ALL}
    with StopSignals():
        me(signal.SIGTERM)
    assert {number: signal.getsignal(number) for number in ALL} == before
