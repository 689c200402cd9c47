"""Two switches that make this CPU about twice as fast, each probed, logged and optional.

1. glibc gives activations above 32 MiB back to the kernel after every use, and every step
   pays the page faults again. ``mallopt`` lets it keep them.
2. torch sends fp32 matrix products to MKL, which reaches about half of what an AVX-512 CPU
   can do; torch's switch "bf16" sends them to oneDNN, which without AMX still computes in
   fp32. *With* AMX it would really round to bf16: hence the probe of speed **and** error.

``SA3D_NO_CPU_TUNING=1`` leaves everything as torch has it.
"""

from __future__ import annotations

import ctypes
import os
import time
from dataclasses import dataclass
from typing import Any

import torch

OPT_OUT = "SA3D_NO_CPU_TUNING"
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = 2**31 - 1
# One product of the method's MLP. MKL's own error on it is 5e-5, bf16 rounding's 1e-1.
_ROWS, _INNER, _COLUMNS = 2048, 384, 1536
_ERROR_FACTOR, _MIN_SPEEDUP, _ROUNDS = 4.0, 1.05, 5
_MATMUL: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]


@dataclass(frozen=True)
class CpuTuning:
    """What :func:`configure_cpu` found and did. ``speedup`` and ``error_ratio`` compare oneDNN
    with torch's default on one matrix product; nan where nothing was probed."""

    malloc: bool
    onednn: bool
    speedup: float
    error_ratio: float
    note: str

    def describe(self) -> str:
        """One line for logs and ``sa3d doctor``."""
        malloc = "keeps large blocks" if self.malloc else "default"
        route = "oneDNN" if self.onednn else "default"
        return f"malloc {malloc}; fp32 products by {route} ({self.note})"


def configure_cpu() -> CpuTuning:
    """Tune this process; call once, before training, after setting the threads."""
    if os.environ.get(OPT_OUT, "") not in ("", "0"):
        return CpuTuning(False, False, float("nan"), float("nan"), f"{OPT_OUT} is set")
    malloc = _keep_large_blocks()
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return CpuTuning(malloc, False, float("nan"), float("nan"), "this torch has no oneDNN")
    speedup, error_ratio = _probe()
    good = speedup >= _MIN_SPEEDUP and error_ratio <= _ERROR_FACTOR
    use_onednn(good)
    note = f"oneDNN {speedup:.2f} times as fast, {error_ratio:.1f} times the rounding error"
    return CpuTuning(malloc, good, speedup, error_ratio, note)


def use_onednn(wanted: bool) -> None:
    """Send fp32 matrix products to oneDNN, or back to torch's default."""
    _MATMUL.fp32_precision = "bf16" if wanted else "none"


def onednn_in_use() -> bool:
    """Whether fp32 matrix products go to oneDNN; kept in checkpoints, for bit-exact resume."""
    return str(_MATMUL.fp32_precision) == "bf16"


def _keep_large_blocks() -> bool:
    """Raise malloc's thresholds; False where the C library is not glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    kept = mallopt(_M_MMAP_THRESHOLD, _LARGEST)
    return bool(mallopt(_M_TRIM_THRESHOLD, _LARGEST)) and bool(kept)


def _probe() -> tuple[float, float]:
    """(speed-up, ratio of largest errors) of oneDNN over the default, tried in turns."""
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(_ROWS, _INNER, generator=generator)
    right = torch.randn(_INNER, _COLUMNS, generator=generator)
    exact = left.double() @ right.double()
    before = onednn_in_use()
    seconds = {False: float("inf"), True: float("inf")}
    error = dict(seconds)
    try:
        for round_ in range(_ROUNDS):
            for route in (False, True):
                use_onednn(route)
                start = time.process_time()  # not wall time: other processes must not vote
                product = left @ right
                seconds[route] = min(seconds[route], time.process_time() - start)
                if round_ == 0:
                    error[route] = float((product.double() - exact).abs().max())
    finally:
        use_onednn(before)
    return seconds[False] / seconds[True], error[True] / error[False]
