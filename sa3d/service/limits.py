"""What a request may ask for, and how it is told that it may not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

SHOWN: Final = 8192
"""Most points of a cloud that an answer holds for a picture."""
NEAR: Final = 20
"""Most similar shapes of a cloud that an answer holds."""


@dataclass(frozen=True)
class Limits:
    """Bounds on memory and patience.

    Attributes:
        clouds: in one request.
        points: in one request, of all its clouds.
        size: bytes of a request's body.
        waiting: requests that are being read, wait, or are being answered.
        seconds: until the body of a request must have arrived.
    """

    clouds: int = 64
    points: int = 1_000_000
    size: int = 32 << 20
    waiting: int = 64
    seconds: float = 30.0

    @property
    def held(self) -> int:
        """Bytes of all bodies at once: of a few of the largest, or of many smaller ones."""
        return 8 * self.size


class RefusedError(Exception):
    """A request that is not answered: its status, and one line that says why."""

    def __init__(self, status: int, why: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(why)
        self.status, self.headers = status, dict(headers or {})


def check_counts(clouds: int, points: int, limits: Limits) -> None:
    """Refuse more than a request may have.

    Raises:
        RefusedError: it has.
    """
    if clouds > limits.clouds:
        raise RefusedError(413, f"{clouds} clouds, more than the {limits.clouds} of one request")
    if points > limits.points:
        raise RefusedError(413, f"{points} points, more than the {limits.points} of one request")
