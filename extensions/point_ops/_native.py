"""Finds and loads the C++ library, or says once why plain torch serves instead."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import torch

FORCED_TORCH = os.environ.get("POINT_OPS_BACKEND", "").lower() == "torch"
REASON = ""  # why the C++ library is not loaded; empty when it is


def _load() -> str:
    """Load the library; return the reason when it cannot be had."""
    if FORCED_TORCH:
        return "POINT_OPS_BACKEND=torch"
    here = Path(__file__).parent
    found = sorted(p for p in here.glob("_C*") if p.suffix in {".so", ".pyd", ".dylib"})
    if not found:
        return "it was not built (no compiler at install time, or the build failed)"
    try:
        torch.ops.load_library(found[0])  # type: ignore[no-untyped-call]
    except OSError as error:
        return f"{found[0].name} does not load beside torch {torch.__version__}: {error}"
    return ""


def has_kernel(qualified: str) -> bool:
    """Whether the loaded C++ library registered a CPU kernel for `qualified`."""
    return not REASON and torch._C._dispatch_has_kernel_for_dispatch_key(qualified, "CPU")


def announce() -> None:
    """Warn of the fallback, unless it was asked for; `point_ops/__init__.py` calls it, once."""
    if REASON and not FORCED_TORCH:
        warnings.warn(
            f"point_ops: no C++ kernels, {REASON}. Plain torch serves on the CPU: correct, slower. "
            "To build them: install a C++ compiler, then "
            "`pip install --no-build-isolation --force-reinstall --no-deps ./extensions`.",
            RuntimeWarning,
            stacklevel=3,  # the line that imports point_ops
        )


REASON = _load()
