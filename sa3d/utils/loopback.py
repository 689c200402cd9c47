"""Servers on this machine are asked directly, whatever proxy is set for others."""

from __future__ import annotations

import os
from typing import Final

_OWN: Final = ("127.0.0.1", "localhost", "::1")
_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy")
_EXEMPT: Final = ("no_proxy", "NO_PROXY")


def ask_loopback_directly() -> None:
    """Exempt this machine's own addresses from the proxy of the environment, if there is one.

    Python's own client, requests (MLflow) and httpx (Prefect) read these variables, and so do the
    processes that are started from here.
    """
    if not any(os.environ.get(name) or os.environ.get(name.upper()) for name in _PROXIES):
        return
    # some clients read one spelling, some the other
    before = [os.environ.get(name, "").strip() for name in _EXEMPT]
    hosts = [host.strip() for text in before for host in text.split(",")]
    exempt = ",".join(dict.fromkeys(host for host in (*hosts, *_OWN) if host))
    if "*" in before:  # all of them; as one of a list, Python's own client does not know it
        exempt = "*"
    os.environ.update(dict.fromkeys(_EXEMPT, exempt))
