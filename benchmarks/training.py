"""A training step at published size against one that is written plainly, on the CPU.

    python benchmarks/training.py --batch 32 --rounds 5 --threads 2

For plain Point-MAE, SA3DF at the end of its curriculum and plain Point-M2AE (which has a quarter of
the clouds, as it takes four times the memory): our step in fp32 and bf16, and that of
``benchmarks/plain_sa3df.py``, which has the same weights, clouds, blocks and point operators, in
both. Losses of the same masks must agree in fp32. Steps alternate; times are medians, ratios are
medians of the rounds' own. Both sides have malloc's thresholds raised and threads that wait
briefly, as `sa3d` has. Peak memory is of a process of its own for every row, beyond what it holds
before its first step. FLOPs are counted by torch; their share is of the fastest matrix product in
that precision, measured in the same run.
``--check`` fails where losses differ, operations are too many, or something is below its floor in
``benchmarks/floors.py``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

HERE = Path(__file__).resolve().parent
if __package__ is None:  # run as a script
    import from_root  # noqa: F401

from sa3d.utils.waiting import wait_briefly  # noqa: E402

wait_briefly()  # as `sa3d` does; for both sides

import torch  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from benchmarks import floors  # noqa: E402
from benchmarks.gpu_steps import Operations  # noqa: E402
from benchmarks.plain_sa3df import PlainMAE, PlainSA3DF, PlainScales  # noqa: E402
from sa3d import models  # noqa: E402
from sa3d.config.loading import load_experiment  # noqa: E402
from sa3d.engine import tune  # noqa: E402
from sa3d.engine.precision import autocast  # noqa: E402
from sa3d.engine.types import Progress  # noqa: E402
from sa3d.methods.build import build_method  # noqa: E402

CPU = torch.device("cpu")
METHODS: dict[str, tuple[str, Any]] = {  # experiment and plain form of each row
    "mae": ("point-mae-sa3df", PlainMAE),
    "sa3df": ("point-mae-sa3df", PlainSA3DF),
    "m2ae": ("point-m2ae", PlainScales),
}
FORMS = ("plain fp32", "plain bf16", "ours fp32", "ours bf16")
AGREE = 1e-6  # losses of both forms in fp32, relative


class Contenders:
    """Both forms of a method with the same weights, and their clouds."""

    def __init__(self, method: str, batch: int) -> None:
        torch.manual_seed(0)
        # stochastic depth would draw its numbers in another order
        experiment, plain = METHODS[method]
        config = load_experiment(experiment, HERE.parent / "params.yaml", ["model.drop_path=0"])
        wanted = "mae" if method == "m2ae" else method
        settings = next(s for s in config.methods.values() if s.method == wanted)
        self.ours: dict[str, Any] = {}
        for precision in ("fp32", "bf16"):
            teacher = models.build_backbone(config.model) if settings.has_teacher else None
            own = settings.model_copy(update={"precision": precision})
            self.ours[precision] = build_method(own, config.model, teacher).train()
        exact = self.ours["fp32"]
        self.ours["bf16"].load_state_dict(exact.state_dict())
        masked = exact.strategy.masked
        self.progress = Progress(399, 400, 0, 1, torch.Generator().manual_seed(0))
        hard = exact.strategy.hard_budget(399, 400)
        self.plain = plain(exact, masked, *([hard] if method == "sa3df" else [])).train()
        points = torch.randn(batch, config.pretrain.data.points, 3)
        self.points = points / points.norm(dim=-1).amax(1)[:, None, None]
        self.optimisers: dict[str, torch.optim.Optimizer] = {}

    def steps(self) -> dict[str, Callable[[], None]]:
        """A step of each form."""
        return {form: self._step(*form.split()) for form in FORMS}

    def _step(self, side: str, precision: str) -> Callable[[], None]:
        ours = side == "ours"
        module: Any = self.ours[precision] if ours else self.plain
        trained = [p for p in module.parameters() if p.requires_grad]
        batch = SimpleNamespace(points=self.points)
        how = {"fused": True} if ours else {"foreach": False}
        name = f"{side} {precision}" if ours else side
        optimiser = self.optimisers.setdefault(name, torch.optim.AdamW(trained, lr=1e-6, **how))

        def step() -> None:
            tune.use_onednn(ours and ROUTE)
            with autocast(CPU, precision):
                if ours:
                    loss = module.training_step(batch, self.progress)["loss"]
                else:
                    loss = module.loss(self.points)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 5.0, foreach=ours)
            optimiser.step()
            optimiser.zero_grad()
            module.after_step(self.progress) if ours else module.after()

        return step

    @torch.no_grad()
    def losses(self) -> tuple[float, float]:
        """Of both forms with the same mask, in fp32, before any step."""
        tune.use_onednn(False)
        ours = self.ours["fp32"]
        ours.strategy = recorded = Recorded(ours.strategy)
        batch = SimpleNamespace(points=self.points)
        own = float(ours.training_step(batch, self.progress)["loss"])
        ours.strategy = recorded.strategy
        return own, float(self.plain.loss(self.points, recorded.flags))


class Recorded:
    """A mask strategy whose last mask is known."""

    def __init__(self, strategy: Any) -> None:
        self.strategy = strategy
        self.flags = torch.zeros(0)

    def __call__(self, *arguments: Any) -> torch.Tensor:
        self.flags = self.strategy(*arguments)
        return self.flags

    def __getattr__(self, name: str) -> Any:
        return getattr(self.strategy, name)


def peak_gemm(precision: str) -> float:
    """GFLOP/s of the fastest of some matrix products."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    tune.use_onednn(precision == "fp32" and ROUTE)
    best = 0.0
    for rows, inner, columns in ((2048, 384, 1536), (32768, 512, 512), (4096, 1536, 1536)):
        left, right = torch.randn(rows, inner).to(dtype), torch.randn(inner, columns).to(dtype)
        for _ in range(8):
            began = time.perf_counter()
            left @ right
            best = max(best, 2e-9 * rows * inner * columns / (time.perf_counter() - began))
    return best


def memory(line: str) -> int:
    """KiB of this process, by the name of a line in its status."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{line}:")[2].split()[0])


def peak(method: str, form: str, batch: int) -> None:
    """Print the MiB that two steps add to what this process holds."""
    step = Contenders(method, batch).steps()[form]
    # ru_maxrss would be inherited from the parent; this peak can be reset
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    step()
    step()
    print((memory("VmHWM") - before) // 1024)


def counted(step: Callable[[], None]) -> tuple[float, int]:
    """GFLOP and operations that are no views, of a step."""
    with FlopCounterMode(display=False) as flops, Operations() as operations:
        step()
    return flops.get_total_flops() / 1e9, operations.count


def compare(
    method: str, batch: int, rounds: int, peaks: dict[str, float], check: floors.Check
) -> None:
    """Print the rows of a method, and check its losses, counts, memory and ratios."""
    batch = batch // 4 if method == "m2ae" else batch
    both = Contenders(method, batch)
    own, other = both.losses()
    if abs(own - other) > AGREE * abs(own):
        raise SystemExit(f"{method}: losses differ, ours {own}, plain {other}")
    steps = both.steps()
    for step in steps.values():
        step()
    times: dict[str, list[float]] = {form: [] for form in steps}
    for _ in range(rounds):
        for form, step in steps.items():
            began = time.perf_counter()
            step()
            times[form].append(time.perf_counter() - began)
    command = [sys.executable, __file__, "--batch", str(batch)]
    command += ["--threads", str(torch.get_num_threads())]
    needed: dict[str, int] = {}
    held, aims = floors.here(), []
    for form, step in steps.items():
        flops, operations = counted(step)
        seconds = statistics.median(times[form])
        ratios = [
            statistics.median(a / b for a, b in zip(times[base], times[form], strict=True))
            for base in ("plain fp32", "plain bf16")
        ]
        for number, base in enumerate(("fp32", "bf16")):
            what = f"{method}, {form}, times as fast as the plain step in {base}"
            check.least(what, ratios[number], held.steps.get((method, form), floors.NONE)[number])
            wanted = held.wanted.get((method, form), floors.NONE)[number]
            if wanted is not None:
                aims.append(f"{what}: {ratios[number]:.2f}, wanted {wanted:g}")
        if form == "ours bf16":
            most = floors.MOST_OPERATIONS[method]
            check.most(f"{method}, {form}, operations of a step", operations, most)
        done = subprocess.run(
            [*command, "--peak-of", method, form], capture_output=True, text=True, check=True
        )
        needed[form] = int(done.stdout)
        share = flops / seconds / peaks[form.split()[1]]
        print(
            f"| {method}, {form} | {seconds:.2f} | {batch / seconds:.1f} | {ratios[0]:.2f}x | "
            f"{ratios[1]:.2f}x | {share:.0%} | {flops / batch:.1f} | {operations} | "
            f"{needed[form]} |",
            flush=True,
        )
    share = needed["ours bf16"] / needed["plain bf16"]
    check.most(f"{method}, share of the plain step's memory", share, held.memory.get(method))
    print(f"\nloss of {method} in fp32: ours {own:.6f}, plain {other:.6f}")
    print("\n".join(aims) + "\n", flush=True)


def main() -> None:
    """Print the table."""
    global ROUTE
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--check", action="store_true", help="fail below a floor, or above a limit")
    parser.add_argument("--peak-of", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tuned = tune.configure_cpu()
    ROUTE = tuned.onednn
    if args.peak_of:
        peak(*args.peak_of, args.batch)
        return
    peaks = {precision: peak_gemm(precision) for precision in ("fp32", "bf16")}
    print(f"# torch {torch.__version__}, {args.threads} threads, {tuned.describe()}")
    print(f"# fastest products: {peaks['fp32']:.0f} GFLOP/s fp32, {peaks['bf16']:.0f} bf16")
    print(f"# batch {args.batch}, {args.rounds} rounds, load at the start {os.getloadavg()[0]:.1f}")
    print(floors.here().describe())
    print(
        "| step | s | samples/s | of plain fp32 | of plain bf16 | peak | GFLOP a sample "
        "| operations | memory, MiB |\n|---|---|---|---|---|---|---|---|---|"
    )
    check = floors.Check()
    for method in args.methods:
        compare(method, args.batch, args.rounds, peaks, check)
    if args.check:
        check.end()


ROUTE = False

if __name__ == "__main__":
    main()
