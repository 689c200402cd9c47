"""What is converted from one type of number to another while something runs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Casts(TorchDispatchMode):
    """How often tensors are converted: by their shape, and by the address of the first number."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: Counter[tuple[int, ...]] = Counter()
        self.addresses: Counter[int] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._to_copy.default:
            self.shapes[tuple(args[0].shape)] += 1
            self.addresses[args[0].data_ptr()] += 1
        return func(*args, **(kwargs or {}))


def bf16() -> torch.autocast:
    """Autocast of the CPU to bfloat16."""
    return torch.autocast("cpu", torch.bfloat16)
