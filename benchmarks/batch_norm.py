"""Times BatchNorm over rows against ``nn.BatchNorm1d``, forward and backward, on the CPU.

    python -m benchmarks.batch_norm --rounds 9 --threads 1 2

In every round both run once, by turns first; the ratio is the median over the rounds of (torch's
time / ours), so that a busy machine slows both. The last two columns are the largest relative
errors of the variance against float64, for rows with mean 3 and standard deviation 1. The run
fails where ours is the slower one. `-m`, since a file here shares its name with a package.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import torch
from torch import Tensor, nn

from sa3d.engine import tune
from sa3d.layers.batch_norm import BatchNorm

SIZES = [(1_048_576, 128), (65_536, 512), (65_536, 128), (2_048, 1_024)]


def once(norm: nn.Module, rows: Tensor, flow: Tensor) -> float:
    """Milliseconds of one forward and backward pass."""
    start = time.perf_counter()
    torch.autograd.grad(norm(rows), (rows, *norm.parameters()), flow)
    return (time.perf_counter() - start) * 1e3


def variance_error(norm: nn.BatchNorm1d, rows: Tensor) -> float:
    """Largest relative error of the running variance after one step with momentum 1."""
    norm.momentum = 1.0
    norm(rows)
    exact = torch.stack([column.double().var() for column in rows.detach().T])
    assert norm.running_var is not None
    return float(((norm.running_var - exact) / exact).abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    args = parser.parse_args()
    print(tune.configure_cpu().describe())
    print(f"torch {torch.__version__}")
    print("| rows | dtype | threads | ours, ms | torch, ms | ratio | ours, error | torch, error |")
    print("|---|---|---|---|---|---|---|---|")
    slower = []
    for shape in SIZES:
        for dtype in (torch.float32, torch.bfloat16):
            draw = torch.Generator().manual_seed(0)
            rows = torch.randn(shape, generator=draw).add_(3).to(dtype).requires_grad_()
            flow = torch.randn(shape, generator=draw).to(dtype)
            errors = [
                variance_error(n, rows) for n in (BatchNorm(shape[1]), nn.BatchNorm1d(shape[1]))
            ]
            ours, theirs = BatchNorm(shape[1]), nn.BatchNorm1d(shape[1])
            for threads in args.threads:
                torch.set_num_threads(threads)
                taken: list[tuple[float, float]] = []
                times = 1 if rows.numel() > 2**24 else 10
                for turn in range((args.rounds + 1) * times):
                    order = [ours, theirs] if turn % 2 else [theirs, ours]
                    spans = {norm: once(norm, rows, flow) for norm in order}
                    if turn >= times:  # the first ones warm up
                        taken.append((spans[ours], spans[theirs]))
                ratio = statistics.median(other / mine for mine, other in taken)
                mine, other = (statistics.median(column) for column in zip(*taken, strict=True))
                name = f"{shape[0]} x {shape[1]} | {str(dtype)[6:]} | {threads}"
                print(
                    f"| {name} | {mine:.2f} | {other:.2f} | {ratio:.2f}x "
                    f"| {errors[0]:.0e} | {errors[1]:.0e} |",
                    flush=True,
                )
                if ratio < 1:
                    slower.append(name)
    if slower:
        sys.exit("slower than torch: " + "; ".join(slower))


if __name__ == "__main__":
    main()
