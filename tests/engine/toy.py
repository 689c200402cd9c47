"""A method without batch norm, points or masks, and a source to train it on. Also a program:
``python toy.py RUN_DIR [--epochs E] [--sleep S]`` trains it with a checkpoint, under
``torchrun`` too, and prints the sha256 of its weights."""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sa3d.config.optim import OptimConfig
from sa3d.engine.checkpoint import Checkpoint
from sa3d.engine.distributed import Processes, processes
from sa3d.engine.loop import Trainer
from sa3d.engine.signals import Stopped
from sa3d.engine.types import Progress
from sa3d.errors import UserError
from sa3d.tracking.journal import Journal

SAMPLES, WIDTH = 48, 6


class ToySource:
    """``SAMPLES`` regression samples; shuffled by (seed, epoch)."""

    def __init__(self, batch_size: int = 8, sleep: float = 0.0, processes: Processes | None = None):
        rng = np.random.default_rng(0)
        self.inputs = torch.from_numpy(rng.normal(size=(SAMPLES, WIDTH)).astype(np.float32))
        self.targets = self.inputs.square().sum(1, keepdim=True)
        self.batch_size = batch_size
        self.sleep = sleep
        self.processes = processes or Processes()

    def __len__(self) -> int:
        return SAMPLES // (self.batch_size * self.processes.world)

    def epoch(self, e: int, start: int = 0) -> Generator[tuple[Tensor, Tensor], None, None]:
        order = torch.from_numpy(np.random.default_rng((1, e)).permutation(SAMPLES))
        whole = self.batch_size * self.processes.world
        for at in range(start, len(self)):
            time.sleep(self.sleep)
            rows = order[at * whole : (at + 1) * whole].chunk(self.processes.world)
            rows = rows[self.processes.rank]
            yield self.inputs[rows], self.targets[rows]


class ToyMethod(nn.Module):
    """An MLP with an unused head, a token, dropout, noise and a running copy."""

    def __init__(self, dropout: float = 0.0, noise: float = 0.0, bad_step: int = -1) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.token = nn.Parameter(torch.ones(1, 1, WIDTH))
        self.body = nn.Sequential(
            nn.Linear(WIDTH, 16), nn.GELU(), nn.Dropout(dropout), nn.Linear(16, 1)
        )
        self.unused = nn.Linear(2, 2)
        self.register_buffer("copy", torch.zeros(16, WIDTH))
        self.noise, self.bad_step = noise, bad_step
        self.stepped: list[int] = []

    def training_step(self, batch: Any, progress: Progress) -> dict[str, Tensor]:
        inputs, targets = batch
        noise = torch.randn(inputs.shape, generator=progress.generator)
        output = self.body(inputs * self.token[0] + self.noise * noise)
        loss = (output.float() - targets).square().mean()
        if progress.step == self.bad_step:
            loss = loss * float("nan")
        return {"loss": loss, "train/extra": loss.detach() * 2}

    def after_step(self, progress: Progress) -> None:
        self.stepped.append(progress.step)
        self.copy.lerp_(self.body[0].weight.detach(), 0.1)

    def no_weight_decay(self) -> set[str]:
        return {"token"}


def settings(**changes: Any) -> OptimConfig:
    values: dict[str, Any] = {"epochs": 3, "batch_size": 8, "lr": 1e-2, "clip": 5.0}
    return OptimConfig(**values | changes)


def trainer(run_dir: Path, method: ToyMethod | None = None, **changes: Any) -> Trainer:
    """A trainer of the toy with a journal and a checkpoint in ``run_dir``."""
    optim = settings(**changes.pop("settings", {}))
    parts: dict[str, Any] = {
        "method": method or ToyMethod(),
        "source": ToySource(optim.batch_size),
        "settings": optim,
        "seed": 7,
        "device": torch.device("cpu"),
        "prepare": lambda batch, progress: batch,
        "tracker": Journal(run_dir),
        "checkpoint": Checkpoint(run_dir / "last.pt", "toy"),
    }
    return Trainer(**parts | changes)


def digest(module: nn.Module) -> str:
    """sha256 of everything in the state dict."""
    whole = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        whole.update(name.encode() + value.numpy().tobytes())
    return whole.hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--sleep", type=float, default=0.0)
    parser.add_argument("--batch", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with processes(torch.device("cpu")) as group:
        method = ToyMethod(dropout=0.2 if group.world == 1 else 0.0, noise=0.1 * (group.world == 1))
        method.unused.requires_grad_(group.world == 1)  # several would wait for its gradient
        source = ToySource(arguments.batch, arguments.sleep, group)
        folder = arguments.run_dir / ("" if group.main else f"rank{group.rank}")
        fit = trainer(
            folder,
            method,
            source=source,
            settings={"epochs": arguments.epochs, "batch_size": arguments.batch},
            checkpoint=Checkpoint(arguments.run_dir / "last.pt", "toy", minutes=0.0),
            processes=group,
        )
        try:
            fit.fit()
        except Stopped as stop:
            return stop.exit_code
        except UserError as error:
            print(error, file=sys.stderr)
            return error.exit_code
        if group.main:
            torch.save(method.state_dict(), arguments.run_dir / "weights.pt")
            print(digest(method))
    return 0


if __name__ == "__main__":
    sys.exit(main())
