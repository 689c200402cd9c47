"""Seeds, and the states of all random generators."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def seed_all(*numbers: int) -> None:
    """Seed Python, numpy and torch (all devices) from ``numbers`` together."""
    seed = derive(*numbers)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def derive(*numbers: int) -> int:
    """A 63-bit seed that differs in every bit when any of ``numbers`` does."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def capture(device: torch.device) -> dict[str, Any]:
    """All generator states, as tensors and plain values (loadable without unpickling code)."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.array(keys)), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore(state: dict[str, Any], device: torch.device) -> None:
    """The inverse of :func:`capture`; a checkpoint's tensors may lie on any device."""
    version, inner, gauss_next = state["python"]
    random.setstate((version, tuple(inner), gauss_next))
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy(), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"].cpu())
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
