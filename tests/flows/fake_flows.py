"""The flows as a worker loads them, with the fake child and without weights to register."""

from __future__ import annotations

from flows.job import job
from flows.pipeline import experiment
from tests.flows import driver  # noqa: F401  it puts the fake child in place

__all__ = ["experiment", "job"]
