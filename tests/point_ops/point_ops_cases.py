"""Inputs shared by the tests of point_ops, and the references to hold it against."""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor


def module(name: str) -> ModuleType:
    """The module behind an operator (the package shadows some with functions of that name)."""
    return importlib.import_module(f"point_ops.{name}")


def interpreted(script: str) -> subprocess.CompletedProcess[str]:
    """A script of this folder, whose Triton kernels run in Triton's interpreter on the CPU."""
    return subprocess.run(
        [sys.executable, str(Path(__file__).with_name(script))],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def cloud(batch: int, n: int, kind: str = "normal", dtype=torch.float32, seed: int = 0) -> Tensor:
    """(B, N, 3) points of one of the kinds that break geometric code."""
    draw = torch.Generator().manual_seed(seed + 7 * n + batch)
    points = torch.randn(batch, n, 3, generator=draw, dtype=torch.float64)
    if kind == "grid":  # very many equal distances
        points = (points * 2).round()
    elif kind == "duplicates":
        points[:, n // 2 :] = points[:, :1]
    elif kind == "broken":
        points[:, ::5, 1] = torch.nan
        points[:, 1::7, 0] = torch.inf
    elif kind == "strided":
        points = points.transpose(1, 2).contiguous().transpose(1, 2)
    elif kind != "normal":
        raise ValueError(kind)
    return points.to(dtype)


KINDS = ["normal", "grid", "duplicates", "broken", "strided"]
DTYPES = [torch.float32, torch.float64]
