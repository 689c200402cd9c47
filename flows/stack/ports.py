"""Ports of this machine: whether one is free, and who holds it if not."""

from __future__ import annotations

import contextlib
import socket

import psutil

from sa3d.errors import UserError

_TRIED = 100


def require_free(option: str, port: int) -> None:
    """Refuse a port that is taken.

    Raises:
        UserError: with who holds it, as far as this user may know, and another port.
    """
    if _free(port):
        return
    other = next((each for each in range(port + 1, port + _TRIED) if _free(each)), None)
    advice = "" if other is None else f"; choose another: {option} {other}"
    raise UserError(f"port {port} is taken by {_holder(port)}{advice}")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        # as the servers do, so that connections of one that has ended do not count
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _holder(port: int) -> str:
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr
            if listens and tuple(connection.laddr)[1:] == (port,) and connection.pid is not None:
                process = psutil.Process(connection.pid)
                words = " ".join(process.cmdline()[:5]) or process.name()
                return f"pid {connection.pid} ({words[:80]})"
    return "a process of another user"
