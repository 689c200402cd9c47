"""A stand-in for CUDA graphs on the CPU: notes every operation with the memory it works on, and
does the same operations on the same memory again. Python numbers stay what they were when noted,
and generators are read anew, as with a real graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from sa3d.engine.graphed import Values, Work


class _Tape(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.done.append((func, args, kwargs or {}, out))
        return out

    def again(self) -> None:
        with torch._C._AutoDispatchBelowAutograd():
            for func, args, kwargs, out in self.done:
                fresh = func(*args, **kwargs)
                for old, new in zip(tensors(out), tensors(fresh), strict=True):
                    if old.data_ptr() != new.data_ptr():
                        old.copy_(new)


def tensors(result: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]


class CpuRecorder:
    """Counts what it does in ``prepared``, ``recorded`` and ``replayed``."""

    def __init__(self) -> None:
        self.prepared = self.recorded = self.replayed = 0

    def prepare(self, work: Work) -> Values:
        self.prepared += 1
        return work()

    def record(self, work: Work) -> tuple[Values, Callable[[], None]]:
        self.recorded += 1
        with _Tape() as tape:
            values = work()
        fresh = True  # the CPU has done the work while it was noted; a GPU has not

        def replay() -> None:
            nonlocal fresh
            self.replayed += 1
            if not fresh:
                tape.again()
            fresh = False

        return values, replay
