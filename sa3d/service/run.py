"""The service, up until it is told to stop."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn

from sa3d.errors import UserError
from sa3d.inference.loading import load_model
from sa3d.service.app import build, is_loopback
from sa3d.service.limits import Limits
from sa3d.service.neighbours import Neighbours

PATIENCE = 30  # seconds for what is being answered when it is told to stop


def serve(
    model: str | None,
    host: str,
    port: int,
    limits: Limits,
    started: Callable[[str], None],
    index: Path | None = None,
) -> None:
    """Answer requests until SIGTERM or SIGINT; what has been taken by then is answered.

    Args:
        model: as for :func:`load_model`; loaded before the port is opened.
        host: address of this machine to listen on.
        port: 0: any that is free.
        limits: on requests.
        started: is told the service's address.
        index: file of an index whose similar shapes are told.

    Raises:
        CheckpointError: no such model, or the encoder of the index is not what it was.
        DataError: no such index.
        UserError: the address cannot be listened on.
    """
    loaded = load_model(model)
    neighbours = None if index is None else Neighbours(index)
    with _listening(host, port) as opened, _silent():
        # a name may stand for an address of this machine alone
        hosts = {host.lower()} if is_loopback(opened.getsockname()[0]) else None
        app = build(loaded, limits, hosts, neighbours)
        shown = f"[{host}]" if ":" in host else host
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=PATIENCE,
            timeout_keep_alive=10,
        )
        started(f"http://{shown}:{opened.getsockname()[1]}")
        uvicorn.Server(config).run(sockets=[opened])


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without lines in the log for what each answer says itself: an unusual density, a body that is
    refused with its reason."""
    levels = {"sa3d.inference.clouds": logging.ERROR, "python_multipart": logging.CRITICAL}
    before = {name: logging.getLogger(name).level for name in levels}
    try:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=256)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(
            f"cannot listen on {host} port {port}: {why}; give another --host or --port"
        ) from None
