"""The flows as a worker loads them, with the fake child and without weights to register."""

from __future__ import annotations

from tests.flows import driver  # noqa: F401  it puts the fake child in place

from flows.job import job  # noqa: E402, I001
from flows.pipeline import experiment  # noqa: E402

__all__ = ["experiment", "job"]
