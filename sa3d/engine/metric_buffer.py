"""Scalars of the last few steps, kept on the device until they are logged."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from sa3d.engine.distributed import Processes
from sa3d.engine.types import LOSS_KEY
from sa3d.metrics import names as keys


class NonFiniteError(Exception):
    """A value that is not finite: its name, the value, and how many steps ago it was computed."""

    def __init__(self, name: str, value: float, steps_ago: int) -> None:
        super().__init__(f"{name} = {value}")
        self.name, self.value, self.steps_ago = name, value, steps_ago


class MetricBuffer:
    """Collects one dict of 0-dim tensors per step and reads them all at once.

    Reading a value makes the host wait for the device, so nothing is read before
    :meth:`pop_means`. It also measures the time spent in training, for the samples per second, and
    which share of it went by in waiting for batches.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._steps: list[dict[str, Tensor]] = []
        self._samples = 0
        self._seconds = self._waited = 0.0
        self._clock_started = time.perf_counter()

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, values: dict[str, Tensor], samples: int) -> None:
        """Add the scalars of one optimiser step over ``samples`` samples."""
        self._steps.append(values)
        self._samples += samples

    def waited(self, seconds: float) -> None:
        """So much of the time was spent in waiting for a batch."""
        self._waited += seconds

    def pause_clock(self) -> None:
        """Stop measuring time: what follows is not training."""
        self._seconds += time.perf_counter() - self._clock_started

    def resume_clock(self) -> None:
        """Measure time again."""
        self._clock_started = time.perf_counter()

    def pop_means(self) -> dict[str, float]:
        """Mean of every scalar over the steps and processes, samples/s and the share of time
        spent in waiting (this process's own); empties the buffer.

        Raises:
            NonFiniteError: the earliest value that is not finite.
        """
        names = sorted({name for step in self._steps for name in step})
        columns = [[step[name] for step in self._steps if name in step] for name in names]
        flat = torch.stack([value.detach().float() for column in columns for value in column])
        values = self._processes.mean(flat).tolist()
        self.pause_clock()
        seconds = max(self._seconds, 1e-9)
        rates = {
            keys.SAMPLES_PER_SECOND: self._samples / seconds,
            keys.DATA_WAIT: self._waited / seconds,
        }
        found: dict[str, float] = {}
        bad: list[NonFiniteError] = []
        for name, column in zip(names, columns, strict=True):
            history, values = values[: len(column)], values[len(column) :]
            name = keys.LOSS if name == LOSS_KEY else name
            bad += [
                NonFiniteError(name, value, len(history) - 1 - at)
                for at, value in enumerate(history)
                if not math.isfinite(value)
            ]
            found[name] = sum(history) / len(history)
        self._steps, self._samples, self._seconds, self._waited = [], 0, 0.0, 0.0
        self.resume_clock()
        if bad:
            # of one step, the loss names the cause better than the gradient norm after it
            raise max(bad, key=lambda b: (b.steps_ago, b.name != keys.GRAD_NORM))
        return found | rates
