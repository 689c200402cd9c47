"""The interfaces between the training loop, what it trains and where batches come from."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

import torch
from torch import Tensor

LOSS_KEY: Final = "loss"
"""The entry of a training step's result that is differentiated."""


@dataclass(frozen=True)
class Progress:
    """Where training stands, as the trained module sees it in one step.

    Attributes:
        epoch: 0-based epoch.
        epochs: epochs in all.
        step: 0-based optimiser step since the beginning, over all epochs.
        steps_per_epoch: optimiser steps of one epoch.
        generator: on the batch's device, seeded from (seed, step, batch within the step,
            rank). Every random choice of a step except dropout and stochastic depth is drawn
            from it, so that a resumed run draws the same.
    """

    epoch: int
    epochs: int
    step: int
    steps_per_epoch: int
    generator: torch.Generator

    @property
    def fraction(self) -> float:
        """Epochs done, with a fraction: epoch 3 of 10, half way through, is 3.5."""
        return self.step / self.steps_per_epoch


@runtime_checkable
class TrainableModule(Protocol):
    """What the training loop calls: an ``nn.Module`` that also has these methods."""

    def training_step(self, batch: Any, progress: Progress) -> dict[str, Tensor]:
        """Loss of one batch.

        Returns:
            ``"loss"``: scalar with a gradient; every other entry a detached 0-dim tensor,
            logged under its name (:mod:`sa3d.metrics.names`). No ``.item()`` in here: the loop
            reads the values once every few steps.
        """
        ...

    def after_step(self, progress: Progress) -> None:
        """Called after the optimiser has stepped, and only if it has (EMA update)."""
        ...

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that weight decay spares beside the 1-D ones (tokens)."""
        ...


class Source(Protocol):
    """Where batches come from. Every batch has the same size, so that the mean over the
    batches of a step is the mean over its samples."""

    batch_size: int

    def __len__(self) -> int:
        """Batches an epoch, the same in every process."""
        ...

    def epoch(self, e: int, start: int = 0) -> Generator[Any, None, None]:
        """The batches of 0-based epoch ``e`` from number ``start`` on, the same each time."""
        ...


class Stateful(Protocol):
    """Something a task wants in the checkpoint beside model and optimiser."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        ...
