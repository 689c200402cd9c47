"""The service: its addresses, and what they answer."""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sa3d import __version__, registry
from sa3d.data.preprocessing import Axis
from sa3d.errors import UserError
from sa3d.inference.loading import Loaded
from sa3d.service.answers import answered, described
from sa3d.service.bodies import FILES, JSON, NPY, Clouds, clouds_of, received
from sa3d.service.limits import NEAR, SHOWN, Limits, RefusedError
from sa3d.service.meters import Meters
from sa3d.service.neighbours import Neighbours
from sa3d.service.work import Work

_PAGE: Final = Path(__file__).with_name("page")
_FILES: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/viewer.js": ("viewer.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
}
# the page loads what comes from here and nothing else
_SAFE: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
}
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": "JSON, the bytes of a .npy file (n, 3) or (B, n, 3), or files",
        "content": {
            JSON: {"schema": Clouds.model_json_schema()},
            NPY: {"schema": {"type": "string", "format": "binary"}},
            FILES: {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {"type": "array", "items": {"type": "string", "format": "binary"}}
                    },
                }
            },
        },
    }
}


def build(
    model: Loaded,
    limits: Limits,
    hosts: Collection[str] | None,
    neighbours: Neighbours | None = None,
) -> FastAPI:
    """The service of a model.

    Args:
        model: that answers.
        limits: on requests.
        hosts: names by which it may be called besides those of this machine's loopback; None: any
            name. A service of this machine alone is not called by another name, unless a foreign
            page has had a browser do so.
        neighbours: of an index, if there is one.
    """
    work = Work(limits)
    meters = Meters(work)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        work.close()

    # its pages of documentation would be loaded from elsewhere
    app = FastAPI(title="sa3d", version=__version__, docs_url=None, redoc_url=None, lifespan=life)
    app.add_middleware(_Around, meters=meters, hosts=hosts)
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(UserError, _not_usable)
    app.add_exception_handler(RequestValidationError, _wrong_query)
    app.add_exception_handler(HTTPException, _no_such)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Whether it is alive, and whether it would take a request now."""
        return {"alive": True, "ready": not work.full}

    @app.get("/ready", responses={503: {"description": "no place for another request"}})
    async def ready() -> Response:
        """200 where a request would be taken now, else 503."""
        return JSONResponse({"ready": not work.full}, 503 if work.full else 200)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Counters, for Prometheus."""
        return Response(meters.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/model")
    async def about() -> dict[str, Any]:
        """What the model is, which files it reads, and the limits of a request."""
        formats = [f".{name}" for name in registry.READERS]
        known = 0 if neighbours is None else len(neighbours)
        return {
            "model": described(model),
            "formats": formats,
            "limits": asdict(limits),
            "index": {"shapes": known},
        }

    @app.post("/predict", openapi_extra=_BODY)
    async def predict(
        request: Request,
        up: Annotated[
            Axis | None,
            Query(description="the axis that points up; else the model's"),
        ] = None,
        category: Annotated[
            str | None, Query(max_length=200, description="of them, for a segmentation model")
        ] = None,
        shown: Annotated[
            int, Query(ge=0, le=SHOWN, description="points of each to add for a picture")
        ] = 0,
        near: Annotated[
            int, Query(ge=0, le=NEAR, description="similar shapes of the index, for each")
        ] = 0,
    ) -> Response:
        """What the model says of clouds, in their order."""

        def answer(body: bytes) -> tuple[int, bytes]:
            with meters.model_seconds.time():
                usual, axis = model.preprocessing.usual_points, model.axis(up)
                asked = clouds_of(body, request.headers, usual, limits)
                found: dict[str, Any] = {"clouds": answered(model, asked, axis, category, shown)}
                if near and neighbours is not None:
                    rows = neighbours.of(asked, axis, near, pictures=shown > 0)
                    for tree, row in zip(found["clouds"], rows, strict=True):
                        tree["near"] = row
                if "part_names" in model.card:
                    found["part_names"] = model.card["part_names"]
                return len(asked), json.dumps(found, allow_nan=False).encode()

        if near and neighbours is None:
            raise RefusedError(422, "near: the service was started without --index")
        with work.place() as hold:
            body = await received(request.stream(), request.headers, limits, hold)
            count, data = await work.do(lambda: answer(body))
        meters.clouds.inc(count)
        return Response(data, media_type=JSON)

    for path, (name, kind) in _FILES.items():
        app.add_api_route(path, _file(name, kind), include_in_schema=False)
    return app


def _file(name: str, kind: str) -> Any:
    data = (_PAGE / name).read_bytes()

    async def send() -> Response:
        return Response(data, media_type=kind, headers={"Cache-Control": "no-cache"})

    return send


class _Around:
    """Around every request: its host is looked at, its time and status are counted."""

    def __init__(self, app: ASGIApp, meters: Meters, hosts: Collection[str] | None) -> None:
        self._app, self._meters, self._hosts = app, meters, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        known = (*_FILES, "/health", "/ready", "/metrics", "/model", "/predict", "/openapi.json")
        path = scope["path"] if scope["path"] in known else "other"
        began = time.perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                safe = [(name.encode(), value.encode()) for name, value in _SAFE.items()]
                message["headers"] = [*message["headers"], *safe]
                self._meters.requests.labels(path, message["status"]).inc()
                self._meters.seconds.labels(path).observe(time.perf_counter() - began)
            await send(message)

        refusal = self._refusal(Headers(scope=scope))
        await (refusal or self._app)(scope, receive, counted)

    def _refusal(self, headers: Headers) -> JSONResponse | None:
        host = headers.get("host", "")
        if self._hosts is not None:
            name = (_place_of(f"//{host}") or ("", None))[0]
            if not is_loopback(name) and name not in self._hosts:
                return _error(421, f"this service is not called '{host[:80]}'")
        # a browser says which page asks; programs that are no browser send no such header
        for origin in headers.getlist("origin"):
            scheme = origin.partition(":")[0].lower()
            if _place_of(origin) is None or _place_of(origin) != _place_of(f"{scheme}://{host}"):
                return _error(403, f"a page of '{origin[:80]}' may not ask this service")
        return None


def is_loopback(name: str) -> bool:
    """Whether a name or address can only be this machine as it calls itself."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name.lower() == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _place_of(url: str) -> tuple[str, int | None] | None:
    """Name and port in an address; None where it has no name."""
    try:
        parts = urlsplit(url)
        usual = {"http": 80, "https": 443}.get(parts.scheme)
        return (parts.hostname, parts.port or usual) if parts.hostname else None
    except ValueError:
        return None


def _error(status: int, why: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": " ".join(why.split())}, status, headers)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return _error(error.status, str(error), error.headers)


async def _not_usable(_: Request, error: Exception) -> Response:
    return _error(422, str(error))


async def _wrong_query(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return _error(422, f"{first['loc'][-1]}: {first['msg']}")


async def _no_such(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, str(error.detail), dict(error.headers or {}))
