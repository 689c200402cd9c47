"""Pre-training on a GPU: what a step costs, how much of the card it uses, how long a run takes.

    python benchmarks/gpu.py                        # about 4 minutes on an H100
    python benchmarks/gpu.py --batches 128 --experiments point-mae-sa3df --rounds plain

First what the card can do: a large matrix product and a copy. Then published models, each trained
for some steps by the engine's own loop, with the EMA teacher and the full budget of hard patches:

* `eager`: kernel after kernel (`SA3D_NO_CUDA_GRAPH=1`);
* `graph`: forward and backward as one CUDA graph, which is what the engine does on a GPU;
* `torch embedding`, and `torch embedding + graph`: the same two with patch embeddings by torch's
  operators instead of the fused Triton kernels of `point_ops` (normalisation, ReLU, maxima);
* `compiled`: torch.compile of the two branches of every transformer block (LayerNorm and attention,
  LayerNorm and MLP) and of every patch embedding; eager else. `compiled + graph`: that as a graph.

Times are medians between the starts of two steps on the GPU. `busy` is the sum of the times of all
kernels of a profiled step: as far below ms/step as the GPU waits for the host. `host calls` are
launches of kernels and graphs, copies and fills; `operations` those of an eager step that are no
views. `peak` is the counted FLOPs a second, as a share of the measured matrix product. `memory` is
what the process reserves at most. `hours` is the published pre-training on ShapeNet (52 470
clouds), `+ teacher` with that of its knowledge teacher too, in the same precision, batch and way.
`loss` is that of the last steps, as a difference from the eager steps'.

fp32 (no TF32) is measured at the first batch size alone, and neither compiled nor with torch's
embedding; these two, of which compilation takes a minute, at the first batch size of the first
experiment. A row that fails says why, and the others
go on. No row begins after `--minutes`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

# A GPU that is profiled while it runs graphs must not unload its profiler in between.
os.environ.setdefault("DISABLE_CUPTI_LAZY_REINIT", "1")
os.environ.setdefault("TEARDOWN_CUPTI", "0")

if __package__ is None:  # run as a script
    import from_root  # noqa: F401

import torch
from torch.autograd import DeviceType

from benchmarks.gpu_steps import (
    WARM_UP,
    Card,
    Case,
    Counted,
    Steps,
    compiled,
    count,
    environment,
    torch_embedding,
)
from sa3d.engine.graphed import OPT_OUT, Recorder

CLOUDS = 52_470  # ShapeNet55, of which all are trained on
HOST_CALLS = ("cudaLaunch", "cuLaunch", "cudaGraphLaunch", "cudaMemcpy", "cudaMemset")
ROUNDS = {
    "plain": ("eager", "graph"),
    "embedding": ("torch embedding", "torch embedding + graph"),
    "compiled": ("compiled", "compiled + graph"),
}
COLUMNS = (
    "model", "precision", "batch", "step", "ms/step", "samples/s", "/ eager", "loss", "peak",
    "busy, ms", "kernels", "host calls", "operations", "memory, GiB", "hours", "+ teacher",
)  # fmt: skip

MakeRecorder = Callable[[], Recorder]


def ceilings(card: Card, size: int, megabytes: int) -> None:
    """Print and keep the card's speed on a matrix product of ``size`` and on a copy."""
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        left, right = (torch.randn(size, size, device=card.device, dtype=dtype) for _ in range(2))
        out = torch.empty_like(left)
        took = card.median(lambda a=left, b=right, o=out: torch.mm(a, b, out=o))
        card.tflops[name] = 2 * size**3 / took / 1e9
        print(f"* {name} matrix product of {size}: {card.tflops[name]:.4g} TFLOP/s")
    one = torch.randn(megabytes * 2**20 // 4, device=card.device)
    other = torch.empty_like(one)
    took = card.median(lambda: other.copy_(one))
    print(f"* copy of {megabytes} MiB: {2 * one.nbytes / took / 1e6:.4g} GB/s read and written")


# --- one row -----------------------------------------------------------------------------


@dataclass
class Row:
    case: tuple[str, str]  # experiment, method
    precision: str
    batch: int
    way: str
    failed: str = ""
    ms: float = 0.0
    loss: float = 0.0
    busy: float | None = None  # milliseconds
    kernels: int | None = None
    host_calls: int | None = None
    gib: float | None = None
    share: float = 0.0
    counted: Counted | None = None
    hours: float = 0.0

    @property
    def key(self) -> tuple[str, str, str, int, str]:
        return (*self.case, self.precision, self.batch, self.way)


def measure(
    row: Row, case: Case, counted: Counted, args: argparse.Namespace, make: MakeRecorder | None
) -> None:
    """Fill ``row``."""
    card, graph = case.card, "graph" in row.way
    case.choose(row.precision)
    if graph and not case.method.capturable:
        raise RuntimeError("this backbone's steps cannot be recorded")
    if graph and not card.gpu and make is None:
        raise RuntimeError("a CUDA graph needs a GPU")
    recorder = make() if graph and make is not None else None
    steps = Steps(card, args.steps + WARM_UP, profiled=True)
    with contextlib.ExitStack() as around:
        around.enter_context(environment(OPT_OUT, "0" if graph else "1"))
        if "compiled" in row.way:
            around.enter_context(compiled(case.method, args.backend))
        row.loss = case.fit(row.batch, row.precision, steps, recorder)
    row.ms, row.counted = steps.timed(), counted
    row.share = counted.flops / row.ms / 1e9 / card.tflops[row.precision]
    row.hours = CLOUDS * case.settings.epochs / row.batch * row.ms / 3.6e6
    if card.gpu:
        row.gib = torch.cuda.max_memory_reserved(card.device) / 2**30
        row.kernels, row.busy, row.host_calls = profiled(steps.profiler.events())


def profiled(events: Iterable[Any]) -> tuple[int, float, int]:
    """Kernels, their milliseconds in all, and the host's calls that start work on the GPU."""
    events = list(events)
    kernels = [event for event in events if event.device_type == DeviceType.CUDA]
    busy = sum(event.time_range.elapsed_us() for event in kernels) / 1e3
    return len(kernels), busy, sum(event.name.startswith(HOST_CALLS) for event in events)


def table(rows: list[Row], teachers: dict[str, str]) -> str:
    """Rows as markdown, in the order of cases."""
    done = {row.key: row for row in rows if not row.failed}
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for row in sorted(rows, key=lambda r: (r.case, r.precision, r.batch)):
        experiment, method = row.case
        head = f"| {experiment}: {method} | {row.precision} | {row.batch} | {row.way} | "
        if row.failed or row.counted is None:
            lines.append(f"{head}{row.failed.replace('|', '/')} |" + " |" * (len(COLUMNS) - 5))
            continue
        eager = done.get((*row.case, row.precision, row.batch, "eager"))
        teacher = done.get((experiment, teachers.get(method, ""), *row.key[2:]))
        cells = [
            f"{row.ms:.4g}",
            f"{row.batch / row.ms * 1e3:.5g}",
            "-" if eager is None else f"{eager.ms / row.ms:.2f}x",
            f"{row.loss:.6g}" if eager is None else f"{row.loss / eager.loss - 1:+.0e}",
            f"{row.share:.1%}",
            _cell(row.busy, ".4g"),
            _cell(row.kernels, "d"),
            _cell(row.host_calls, "d"),
            f"{row.counted.operations}",
            _cell(row.gib, ".1f"),
            f"{row.hours:.2f}",
            "-" if teacher is None else f"{row.hours + teacher.hours:.2f}",
        ]
        lines.append(head + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


# --- all rows ----------------------------------------------------------------------------


def plan(args: argparse.Namespace) -> list[Row]:
    """What is measured, the most telling first: graphs before compilation, bf16 before fp32."""
    rows = []
    for name in args.rounds:
        plain = name == "plain"
        for experiment in args.experiments if plain else args.experiments[:1]:
            for method in args.methods:
                for precision in args.precisions if plain else ["bf16"]:
                    whole = plain and precision == "bf16"
                    for batch in args.batches if whole else args.batches[:1]:
                        case = (experiment, method)
                        rows += [Row(case, precision, batch, way) for way in ROUNDS[name]]
    return rows


def main(argv: list[str] | None = None, recorder: MakeRecorder | None = None) -> list[Row]:
    """Measure and print. ``recorder`` makes what records steps where there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--batches", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--steps", type=int, default=16, help="timed steps of each row")
    parser.add_argument("--minutes", type=float, default=4.0, help="no row begins later")
    parser.add_argument("--experiments", nargs="+", default=["point-mae-sa3df", "point-m2ae-sa3df"])
    parser.add_argument("--methods", nargs="+", default=["sa3df", "mae"])
    parser.add_argument("--precisions", nargs="+", default=["bf16", "fp32"])
    parser.add_argument("--rounds", nargs="+", choices=ROUNDS, default=[*ROUNDS])
    parser.add_argument("--set", action="append", default=[], help="as of `sa3d pretrain --set`")
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    parser.add_argument("--size", type=int, default=8192, help="of the matrix product")
    parser.add_argument("--megabytes", type=int, default=1024, help="of the copy")
    args = parser.parse_args(argv)
    began = time.perf_counter()
    card = Card(torch.device(args.device))
    if card.gpu:
        torch.cuda.set_device(card.device)
    print(f"# {card.name}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    ceilings(card, args.size, args.megabytes)
    rows = plan(args)
    case: Case | None = None
    counts: dict[tuple[Any, ...], Counted] = {}
    for row in rows:
        if time.perf_counter() - began > 60 * args.minutes:
            row.failed = "left out: no time"
            continue
        row_began = time.perf_counter()
        try:
            if case is None or (case.experiment, case.method_name) != row.case:
                case = None
                card.clean()
                case = Case(card, *row.case, args.set)
            by_torch = "torch embedding" in row.way
            like = (*row.case, row.precision, row.batch, by_torch)
            with torch_embedding(card.device) if by_torch else contextlib.nullcontext():
                if like not in counts:
                    counts[like] = count(case, row.batch, row.precision)
                card.clean()
                measure(row, case, counts[like], args, recorder)
        except Exception as error:  # a row that fails must not take the others with it
            traceback.print_exc()
            row.failed = f"failed: {type(error).__name__}: {str(error).splitlines()[0][:200]}"
        note = row.failed or f"{row.ms:.2f} ms/step"
        spent = time.perf_counter() - row_began
        print(*row.key, note, f"({spent:.0f} s)", file=sys.stderr, flush=True)
    print()
    print(table(rows, {"sa3df": "mae"}))
    print(f"\nwhole run: {time.perf_counter() - began:.0f} s")
    return rows


if __name__ == "__main__":
    main()
