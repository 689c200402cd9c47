"""Scalars of the last few steps, kept on the device until they are logged."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from sa3d.engine.distributed import Processes
from sa3d.engine.types import LOSS_KEY
from sa3d.metrics import names as keys


class Bad(Exception):  # noqa: N818
    """A value that is not finite: what, its value, and how many steps ago it came up."""

    def __init__(self, name: str, value: float, steps_ago: int) -> None:
        super().__init__(f"{name} = {value}")
        self.name, self.value, self.steps_ago = name, value, steps_ago


class Window:
    """Collects one dict of 0-dim tensors a step; reads them all at once.

    Reading a value makes the host wait for the device, so nothing is read in between.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._steps: list[dict[str, Tensor]] = []
        self._samples = 0
        self._seconds = 0.0
        self._resumed = time.perf_counter()

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, values: dict[str, Tensor], samples: int) -> None:
        """One optimiser step."""
        self._steps.append(values)
        self._samples += samples

    def pause(self) -> None:
        """Stop the clock: what follows is not training."""
        self._seconds += time.perf_counter() - self._resumed

    def go_on(self) -> None:
        """Start the clock again."""
        self._resumed = time.perf_counter()

    def means(self) -> dict[str, float]:
        """Mean of every scalar over the steps and processes, and samples/s; then empty.

        Raises:
            Bad: the earliest value that is not finite.
        """
        names = sorted({name for step in self._steps for name in step})
        columns = [[step[name] for step in self._steps if name in step] for name in names]
        flat = torch.stack([value.detach().float() for column in columns for value in column])
        values = self._processes.mean(flat).tolist()
        self.pause()
        rates = {keys.SAMPLES_PER_SECOND: self._samples / max(self._seconds, 1e-9)}
        found: dict[str, float] = {}
        bad: list[Bad] = []
        for name, column in zip(names, columns, strict=True):
            history, values = values[: len(column)], values[len(column) :]
            name = keys.LOSS if name == LOSS_KEY else name
            bad += [
                Bad(name, value, len(history) - 1 - at)
                for at, value in enumerate(history)
                if not math.isfinite(value)
            ]
            found[name] = sum(history) / len(history)
        self._steps, self._samples, self._seconds = [], 0, 0.0
        self.go_on()
        if bad:
            # of one step, the loss names the cause better than the gradient norm after it
            raise max(bad, key=lambda b: (b.steps_ago, b.name != keys.GRAD_NORM))
        return found | rates
