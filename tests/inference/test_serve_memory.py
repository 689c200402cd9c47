"""What a request may take of memory, and what becomes of one that nobody waits for."""

from __future__ import annotations

import asyncio
import gzip
import io
import tracemalloc
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect

from sa3d.service.bodies import FILES, JSON, Asked, clouds_of, received
from sa3d.service.limits import Limits, RefusedError
from sa3d.service.work import Work

LIMITS = Limits(clouds=4, points=10_000, size=4 << 20, waiting=8, seconds=5.0)


def asked(body: bytes, kind: str) -> list[Asked]:
    return clouds_of(body, Headers({"content-type": kind}), 64, LIMITS)


def refused(call: Callable[[], object]) -> tuple[int, int]:
    """The status, and the peak of what was allocated meanwhile."""
    tracemalloc.start()
    try:
        with pytest.raises(RefusedError) as found:
            call()
        return found.value.status, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "body",
    [
        b'{"clouds": [[' + b"[0,1,2]," * 400_000 + b"[0,1,2]]]}",
        b'{"clouds": [' + b"[]," * 1_000_000 + b"[]]}",
        b'{"clouds": [[[' + b"0," * 1_500_000 + b"0]]]}",
        b'{"clouds": ' + b"[" * 3_000_000,
    ],
)
def test_json_of_more_than_may_be_is_not_parsed(body: bytes) -> None:
    status, peak = refused(lambda: asked(body, JSON))
    assert (status, peak < 1 << 20) == (413, True)


def test_json_of_as_many_points_and_clouds_as_may_be_is_parsed() -> None:
    cloud = "[" + ",".join(["[0,1,2]"] * 2500) + "]"
    found = asked(('{"clouds": [' + ",".join([cloud] * 4) + "]}").encode(), JSON)
    assert [len(each.points) for each in found] == [2500] * 4


def one_file(name: str, data: bytes) -> tuple[bytes, str]:
    head = f'--b\r\nContent-Disposition: form-data; name="f"; filename="{name}"\r\n\r\n'
    return head.encode() + data + b"\r\n--b--\r\n", f"{FILES}; boundary=b"


def test_a_packed_file_is_not_unpacked_to_more_than_a_body_may_have() -> None:
    packed = io.BytesIO()
    np.savez_compressed(packed, points=np.zeros((1_000_000, 3)))
    bomb = gzip.compress(b"0 0 1\n" * 2_000_000)
    for name, data in (("a.npz", packed.getvalue()), ("a.xyz", bomb)):
        body, kind = one_file(name, data)
        status, peak = refused(lambda body=body, kind=kind: asked(body, kind))  # type: ignore[misc]
        assert (name, status, peak < 16 << 20) == (name, 422, True)


async def parts(count: int, size: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield bytes(size)


def take(stream: AsyncIterator[bytes], hold: Callable[[int], None]) -> bytes:
    return asyncio.run(received(stream, Headers(), LIMITS, hold))


def test_all_bodies_together_are_bounded() -> None:
    work = Work(LIMITS)
    with work.place() as first:
        take(parts(4, 1 << 20), first)
        first(LIMITS.held - (5 << 20))  # as others do
        with work.place() as second:
            status, peak = refused(lambda: take(parts(2, 1 << 20), second))
            assert (status, peak < 3 << 20) == (503, True)
        assert work.held == LIMITS.held - (1 << 20)
    assert (work.held, work.taken) == (0, 0)
    with work.place() as third:
        assert len(take(parts(4, 1 << 20), third)) == 4 << 20
    work.close()


async def hung_up() -> AsyncIterator[bytes]:
    yield b"x"
    raise ClientDisconnect


def test_a_client_that_hangs_up_leaves_nothing_behind() -> None:
    work = Work(LIMITS)
    with pytest.raises(RefusedError, match="has gone") as found, work.place() as hold:
        take(hung_up(), hold)
    assert (found.value.status, work.held, work.taken) == (499, 0, 0)
    work.close()
