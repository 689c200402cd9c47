"""Bodies of requests to clouds: JSON, the bytes of a .npy file, or files of any known format.

Nothing that a client sends is opened as a path, written to one or executed: a file's name says its
format and is repeated in the answer, pickled arrays are refused.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from typing import Annotated, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from sa3d.data import readers
from sa3d.data.readers.packed import unpacking_at_most
from sa3d.errors import DataError
from sa3d.inference.clouds import points_of
from sa3d.service.limits import Limits, RefusedError, check_counts

JSON: Final = "application/json"
NPY: Final = "application/octet-stream"
FILES: Final = "multipart/form-data"

Row = tuple[float, float, float]


class Asked(NamedTuple):
    """A cloud of a request: the name of its file or its place among them, and its points."""

    id: str
    points: NDArray[Any]


class Clouds(BaseModel):
    """The JSON body of a request."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    # the first thing that is wrong ends it: a message has room for one
    clouds: Annotated[list[Annotated[list[Row], FailFast()]], FailFast()] = Field(
        description="clouds of points [x, y, z]"
    )


async def received(
    stream: AsyncIterator[bytes], headers: Headers, limits: Limits, hold: Callable[[int], None]
) -> bytes:
    """The whole body, which is never larger than it may be.

    Args:
        stream: parts of it.
        headers: of the request.
        limits: on its size and time.
        hold: is told the size of every part before it is kept, and may refuse it.

    Raises:
        RefusedError: 413 before more than the limit is held; 408, it took too long; what ``hold``
            says; 499, the client has gone, so that nobody gets this answer.
    """
    told = headers.get("content-length", "0")
    if told.isdecimal() and int(told) > limits.size:
        raise _too_large(limits)
    parts, size = [], 0
    try:
        async with asyncio.timeout(limits.seconds):
            async for part in stream:
                size += len(part)
                if size > limits.size:
                    raise _too_large(limits)
                hold(len(part))
                parts.append(part)
    except ClientDisconnect:
        raise RefusedError(499, "the client has gone") from None
    except TimeoutError:
        raise RefusedError(408, f"the body did not arrive within {limits.seconds:g} s") from None
    return b"".join(parts)


def _too_large(limits: Limits) -> RefusedError:
    # what is left of the body is not read: the connection cannot be used again
    return RefusedError(413, f"a body of more than {limits.size} bytes", {"Connection": "close"})


def clouds_of(body: bytes, headers: Headers, usual_points: int, limits: Limits) -> list[Asked]:
    """The clouds of a request.

    Args:
        body: of it.
        headers: of it; the content type says what the body is.
        usual_points: how many points are taken of a mesh's surface.
        limits: on their number.

    Raises:
        RefusedError: 413, 415 or 422, in one line.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == JSON:
        found = _of_json(body, limits)
    elif kind == NPY:
        found = _of_npy(body, limits)
    elif kind == FILES:
        found = _of_files(body, headers, usual_points, limits)
    else:
        raise RefusedError(415, f"content type '{kind[:60]}'; send {JSON}, {NPY} (.npy) or {FILES}")
    if not found:
        raise RefusedError(422, "no cloud was sent")
    check_counts(len(found), sum(len(each.points) for each in found), limits)
    return found


def _of_json(body: bytes, limits: Limits) -> list[Asked]:
    # a parsed number takes many times its text: more than can be allowed is not parsed. One list
    # of clouds has a bracket for each cloud and point, and a comma between any two of all numbers
    lists, commas = body.count(b"["), body.count(b",")
    if lists > 1 + limits.clouds + limits.points or commas >= 3 * limits.points + limits.clouds:
        raise RefusedError(
            413,
            f"{lists} lists and {commas} commas, more than the {limits.clouds} clouds and "
            f"{limits.points} points of one request have",
        )
    try:
        told = Clouds.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"[{at}]" if isinstance(at, int) else str(at) for at in first["loc"])
        raise RefusedError(422, f"{place or 'body'}: {first['msg'][:200]}") from None
    check_counts(len(told.clouds), sum(map(len, told.clouds)), limits)
    return _numbered(np.array(each, dtype=np.float64).reshape(-1, 3) for each in told.clouds)


def _of_npy(body: bytes, limits: Limits) -> list[Asked]:
    """(n, 3) or (B, n, 3) numbers."""
    file = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read = np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    except (ValueError, EOFError) as error:
        raise RefusedError(422, f"not a .npy file: {_line(error)}") from None
    if dtype.kind not in "fiu" or len(shape) not in (2, 3) or shape[-1] != 3:
        raise RefusedError(422, f"{dtype} {shape}; expected numbers (n, 3) or (B, n, 3)")
    clouds = 1 if len(shape) == 2 else shape[0]
    check_counts(clouds, clouds * shape[-2], limits)
    if clouds * shape[-2] * 3 * dtype.itemsize != len(body) - file.tell():
        raise RefusedError(422, f"the header promises {shape} {dtype}, the body has another size")
    array = np.load(io.BytesIO(body), allow_pickle=False)
    return _numbered([array] if array.ndim == 2 else list(array))


def _of_files(body: bytes, headers: Headers, usual_points: int, limits: Limits) -> list[Asked]:
    async def once() -> AsyncGenerator[bytes, None]:
        yield body

    async def parse() -> list[tuple[str, bytes]]:
        parser = MultiPartParser(
            headers, once(), max_files=limits.clouds, max_fields=8, max_part_size=1 << 16
        )
        form = await parser.parse()
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        try:
            return [(each.filename or "", await each.read()) for each in files]
        finally:
            await form.close()

    try:
        files = asyncio.run(parse())
    except MultiPartException as error:
        many = error.message.startswith("Too many files")
        raise RefusedError(413 if many else 422, _line(error.message)) from None
    found, points = [], 0
    for name, data in files:
        shown = name[-80:]
        try:
            with unpacking_at_most(limits.size):
                read = readers.read(data, readers.format_of(name))
            cloud = points_of(read, usual_points)
        except DataError as error:
            raise RefusedError(422, f"'{_line(shown)}': {_line(error)}") from None
        except ModuleNotFoundError as error:
            raise RefusedError(501, f"'{_line(shown)}': the service lacks {error.name}") from None
        points += len(cloud)
        check_counts(len(files), points, limits)
        found.append(Asked(shown, cloud))
    return found


def _numbered(clouds: Iterable[NDArray[Any]]) -> list[Asked]:
    return [Asked(str(place), cloud) for place, cloud in enumerate(clouds)]


def _line(text: object) -> str:
    return " ".join(str(text).split())[:300]
