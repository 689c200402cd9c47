"""The flows as a worker loads them, with the fake child and without weights to register."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows import pipeline
from flows.deployed import experiment
from flows.forms.experiment import ExperimentForm
from flows.hooks import cancel_children
from flows.job import job
from tests.flows import driver

__all__ = ["driver", "experiment", "job", "tiny"]
pipeline.conclude = lambda results: []  # type: ignore[attr-defined]  # as in the driver


@flow(
    name="tiny",
    flow_run_name="tiny-s{seed}",
    on_cancellation=[cancel_children],
    on_crashed=[cancel_children],
)
def tiny(seed: int, overrides: list[str]) -> Any:
    """The tiny experiment on the workers, as one flow run: without a form for all its settings."""
    pairs = (override.partition("=") for override in overrides)
    settings = {key: value for key, _, value in pairs}
    return pipeline.carry_out(
        ExperimentForm(experiment="tiny", seeds=(seed,), settings=settings, where="workers")
    )
