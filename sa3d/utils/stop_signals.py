"""The signals that ask a training or a flow to save and to end."""

from __future__ import annotations

import signal


def stop_signals() -> tuple[signal.Signals, ...]:
    """SIGTERM, SIGINT, and the SIGHUP of a terminal that is closed, unless this process ignores it
    as one that was started by ``nohup`` does."""
    found = (signal.SIGTERM, signal.SIGINT)
    return found if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (*found, signal.SIGHUP)
