"""One process or several (``torchrun``), and the device each of them computes on."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sa3d.errors import UserError


@dataclass(frozen=True)
class Processes:
    """This process among those of the run."""

    rank: int = 0
    world: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag, true where it is true in any process (collective)."""
        if self.world == 1:
            return flags
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        votes = torch.tensor(flags, dtype=torch.int32, device=device)
        dist.all_reduce(votes, op=dist.ReduceOp.MAX)
        return tuple(bool(vote) for vote in votes.tolist())

    def wait(self) -> None:
        """Until every process is here (collective)."""
        self.any(False)

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the processes (collective)."""
        if self.world > 1:
            values = values.clone()
            dist.all_reduce(values)
            values /= self.world
        return values

    def gather(self, value: Any) -> list[Any]:
        """``value`` (tensors and plain values) of every process, by rank, in the main one;
        empty elsewhere (collective)."""
        if self.world == 1:
            return [value]
        packed = io.BytesIO()
        torch.save(value, packed)  # gather_object itself refuses tensors in torch 2.14
        found = [b""] * self.world if self.main else None
        dist.gather_object(packed.getvalue(), found)
        return [torch.load(io.BytesIO(part), weights_only=True) for part in found or []]


ALONE = Processes()


@contextlib.contextmanager
def processes(device: torch.device) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started; a single one where it did not.

    Inside another ``processes`` that one's group serves on, and is left by the outer one: a second
    group would meet at the same store, where a fast process reads what the first group left there
    and waits for ever.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield ALONE
        return
    if dist.is_initialized():
        yield Processes(dist.get_rank(), world)
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), world)
    finally:
        dist.destroy_process_group()


def choose_device(name: str) -> torch.device:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:1``. Under ``torchrun``, ``cuda`` is this process's.

    Raises:
        UserError: a device that is not there or has another name.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise UserError(f"--device {name}: use auto, cpu, cuda or cuda:0")
    if kind == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError(f"--device {name}: torch finds no CUDA GPU here; use --device cpu")
    index = int(number or os.environ.get("LOCAL_RANK", "0"))
    if index >= torch.cuda.device_count():
        raise UserError(
            f"--device {name}: GPU {index} of {torch.cuda.device_count()} (counted from 0)"
        )
    device = torch.device("cuda", index)
    torch.cuda.set_device(device)
    return device
