"""A web server of one file that misbehaves as it is told."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Web:
    """What the server has, and how it behaves.

    Attributes:
        content: of the file.
        drops: after how many bytes of the answer the connection breaks off, one for each answer
            with a body; when they are used up, it no longer does.
        ranges: whether it knows them.
        validators: whether it gives an ETag.
        length: the length that it claims; None: the true one. -1: it claims none.
        statuses: to answer with, before it begins to work.
        kind: content type.
        redirect: where it sends everybody; empty: nowhere.
        asked: the ``Range`` of every request for the file.
    """

    content: bytes = b""
    drops: list[int] = field(default_factory=list)
    ranges: bool = True
    validators: bool = True
    length: int | None = None
    statuses: list[int] = field(default_factory=list)
    kind: str = "application/zip"
    redirect: str = ""
    asked: list[str] = field(default_factory=list)
    address: str = ""

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.content).hexdigest()[:8]}"'


@contextmanager
def serving(web: Web) -> Iterator[Web]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, web)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answer(to: BaseHTTPRequestHandler, web: Web) -> None:
    if web.redirect and not to.path.startswith("/moved"):
        to.send_response(302)
        to.send_header("Location", web.redirect)
        to.end_headers()
        return
    if web.statuses:
        to.send_error(web.statuses.pop(0))
        return
    asked = to.headers.get("Range", "")
    web.asked.append(asked)
    begin = re.fullmatch(r"bytes=(\d+)-", asked)
    start = int(begin[1]) if begin and web.ranges else 0
    condition = to.headers.get("If-Range")
    if condition is not None and condition != web.etag:
        start = 0
    total = len(web.content)
    if start and start >= total:
        to.send_response(416)
        to.send_header("Content-Range", f"bytes */{total}")
        to.send_header("Content-Length", "0")
        to.end_headers()
        return
    body = web.content[start:]
    to.send_response(206 if start else 200)
    if start:
        to.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
    claimed = len(body) if web.length is None else web.length - start
    if web.length != -1:
        to.send_header("Content-Length", str(claimed))
    to.send_header("Content-Type", web.kind)
    if web.validators:
        to.send_header("ETag", web.etag)
    to.end_headers()
    if web.drops:
        body = body[: web.drops.pop(0)]
    to.wfile.write(body)
    to.close_connection = True
