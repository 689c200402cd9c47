"""A proxy of the environment is for other machines: our own servers are asked directly."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
import requests

from sa3d.utils.loopback import ask_loopback_directly

ASK = """
import sys, urllib.request
{prepared}
import httpx, requests
address = sys.argv[1]
print(urllib.request.urlopen(address, timeout=5).status)
print(requests.get(address, timeout=5).status_code)
print(httpx.get(address, timeout=5).status_code)
"""
NAMES = [f"{kind}_proxy" for kind in ("http", "https", "all", "no")]


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Answer) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


def ask(address: str, prepared: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", ASK.format(prepared=prepared), address],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("localhost", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
@pytest.mark.parametrize(
    "prepared",
    ["import flows", "from sa3d.tracking.mlflow_store import tracking_uri; tracking_uri()"],
)
def test_every_client_reaches_our_servers(
    server: str, environment: pytest.MonkeyPatch, host: str, name: str, prepared: str
) -> None:
    environment.setenv(name, "http://127.0.0.1:9")  # nobody is there
    done = ask(f"http://{server.replace('127.0.0.1', host)}/", prepared)
    assert done.stdout.split() == ["200"] * 3, done.stderr


def test_without_that_they_would_not(server: str, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("http_proxy", "http://127.0.0.1:9")
    assert ask(f"http://{server}/", "pass").returncode != 0


def test_what_is_exempt_already_stays_so(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("http_proxy", "http://proxy:3128")
    environment.setenv("no_proxy", "intra.example, 127.0.0.1")
    environment.setenv("NO_PROXY", "other.example")
    ask_loopback_directly()
    expected = "intra.example,127.0.0.1,other.example,localhost,::1"
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == expected


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_who_uses_no_proxy_at_all_still_uses_none(
    environment: pytest.MonkeyPatch, name: str
) -> None:
    environment.setenv("http_proxy", "http://127.0.0.1:9")
    environment.setenv(name, "*")
    ask_loopback_directly()
    for host in ("127.0.0.1", "mlflow.example"):
        assert urllib.request.proxy_bypass(host)
        assert not requests.utils.get_environ_proxies(f"http://{host}/")
    assert set(httpx.Client()._mounts.values()) == set()


def test_without_a_proxy_nothing_is_set(environment: pytest.MonkeyPatch) -> None:
    ask_loopback_directly()
    assert not {"no_proxy", "NO_PROXY"} & set(os.environ)
