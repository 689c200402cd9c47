"""What the project starts by itself listens on this machine's own address alone."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from flows.server import prefect_api

LOOPBACK = ("127.", "::1", "::ffff:127.")


def listeners(pid: int) -> list[str]:
    """Addresses that a process and those that it started listen on."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return [
        f"{each.laddr.ip}:{each.laddr.port}"
        for process in family
        for each in process.net_connections("inet")
        if each.status == psutil.CONN_LISTEN
    ]


def test_an_open_port_is_seen() -> None:
    import socket

    with socket.socket() as server:
        server.bind(("0.0.0.0", 0))
        server.listen()
        assert f"0.0.0.0:{server.getsockname()[1]}" in listeners(os.getpid())


@pytest.mark.slow
def test_the_flows_own_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    # a setting of the user's for servers of theirs must not open this one
    monkeypatch.setenv("PREFECT_SERVER_API_HOST", "0.0.0.0")
    with prefect_api(tmp_path / "log") as api:
        api.wait()
        found = listeners(os.getpid())
        assert api.url.removeprefix("http://").removesuffix("/api") in found
        assert [each for each in found if not each.startswith(LOOPBACK)] == []
