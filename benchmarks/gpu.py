"""Pre-training on a GPU: what a step costs, how much of the card it uses, how long a run takes.

    python benchmarks/gpu.py                        # about 4 minutes on an H100
    python benchmarks/gpu.py --batches 128 --experiments point-mae-sa3df --rounds plain

First what the card can do: a large matrix product and a copy. Then published models, each trained
for some steps by the engine's own loop, with the EMA teacher and the full budget of hard patches:

* `eager`: kernel after kernel (`SA3D_NO_CUDA_GRAPH=1`);
* `graph`: forward and backward as one CUDA graph, which is what the engine does on a GPU;
* `compiled`: torch.compile of the two branches of every transformer block (LayerNorm and attention,
  LayerNorm and MLP) and of every patch embedding; eager else. `compiled + graph`: that as a graph.

Times are medians between the starts of two steps on the GPU. `busy` is the sum of the times of all
kernels of a profiled step: as far below ms/step as the GPU waits for the host. `host calls` are
launches of kernels, graphs, copies and fills; `operations` those of an eager step that are no views.
`peak` is the share of the measured matrix product that the counted FLOPs need. `memory` is what the
process reserves at most. `hours` is the published pre-training on ShapeNet (52 470 clouds), `+ teacher`
with that of its knowledge teacher, in the same precision, batch and way. `loss` compares the mean
loss of the last steps with the eager step's.

A row that fails says why, and the others go on. No row begins after `--minutes`.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import statistics
import sys
import time
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# A GPU that is profiled while it runs graphs must not unload its profiler in between.
os.environ.setdefault("DISABLE_CUPTI_LAZY_REINIT", "1")
os.environ.setdefault("TEARDOWN_CUPTI", "0")

# This folder holds a file that shares its name with the package point_ops.
HERE = Path(__file__).resolve().parent
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != HERE]
sys.path.append(str(HERE.parent))

import torch  # noqa: E402
from timm.models.vision_transformer import Block  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from sa3d import models  # noqa: E402
from sa3d.config.loading import load_experiment  # noqa: E402
from sa3d.data import transforms  # noqa: E402
from sa3d.data.loader import Batch  # noqa: E402
from sa3d.engine import graphed  # noqa: E402
from sa3d.engine.loop import Trainer  # noqa: E402
from sa3d.layers.patches import PatchEmbed  # noqa: E402
from sa3d.methods.build import build_method  # noqa: E402
from sa3d.metrics import names as keys  # noqa: E402
from sa3d.tracking.journal import NullTracker  # noqa: E402

CLOUDS = 52_470  # ShapeNet55, of which all are trained on
WARM_UP = 4  # steps before the first that is timed
HOST_CALLS = ("cudaLaunch", "cuLaunch", "cudaGraphLaunch", "cudaMemcpy", "cudaMemset")
ROUNDS = {"plain": ("eager", "graph"), "compiled": ("compiled", "compiled + graph")}


@dataclass
class Card:
    """The device, and what it reached."""

    device: torch.device
    tflops: dict[str, float] = field(default_factory=dict)

    @property
    def gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def name(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.gpu else "CPU"

    def mark(self) -> Any:
        """A moment: of the GPU's own time, or of the clock."""
        if not self.gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def milliseconds(self, marks: list[Any]) -> list[float]:
        """Between each mark and the next."""
        self.wait()
        pairs = zip(marks[:-1], marks[1:], strict=True)
        if self.gpu:
            return [float(one.elapsed_time(other)) for one, other in pairs]
        return [1e3 * (other - one) for one, other in pairs]

    def wait(self) -> None:
        if self.gpu:
            torch.cuda.synchronize(self.device)

    def clean(self) -> None:
        gc.collect()
        if self.gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def median(self, work: Any, rounds: int = 10) -> float:
        """Milliseconds of ``work``."""
        for _ in range(3):
            work()
        marks = [self.mark()]
        for _ in range(rounds):
            work()
            marks.append(self.mark())
        return statistics.median(self.milliseconds(marks))


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


# --- what is trained ---------------------------------------------------------------------


class Case:
    """A method with its weights, trained for a few steps again and again from the same start."""

    def __init__(self, card: Card, experiment: str, method: str, overrides: list[str]) -> None:
        config = load_experiment(experiment, HERE.parent / "params.yaml", overrides)
        assert config.pretrain is not None
        self.card, self.points = card, config.pretrain.data.points
        self.settings = next(s for s in config.methods.values() if s.method == method)
        self.experiment, self.method_name = experiment, method
        torch.manual_seed(0)
        teacher = models.build_backbone(config.model) if self.settings.has_teacher else None
        self.method = build_method(self.settings, config.model, teacher).to(card.device)
        self.start = {name: value.clone() for name, value in self.method.state_dict().items()}

    def fit(
        self, batch: int, precision: str, steps: Steps, recorder: graphed.Recorder | None
    ) -> float:
        """Train ``steps``; the mean loss of the last ones."""
        self.method.load_state_dict(self.start)
        augment = transforms.get(self.settings.augment)
        random = torch.Generator().manual_seed(batch)
        points = torch.randn(batch, self.points, 3, generator=random)
        points /= points.norm(dim=-1).amax(1)[:, None, None]
        steps.batch, steps.batch_size = Batch(points, *torch.zeros(2, batch).long()), batch

        def prepare(given: Batch, progress: Any) -> Batch:
            moved = given.points.to(self.card.device, non_blocking=True)
            return given._replace(points=augment(moved, progress.generator))

        changes = {"epochs": 1, "batch_size": batch, "precision": precision, "accumulate": 1}
        fitted = Trainer(
            self.method,
            steps,
            self.settings.model_copy(update=changes),
            seed=0,
            device=self.card.device,
            prepare=prepare,
            tracker=NullTracker(),
            checkpoint=None,
            recorder=recorder,
        ).fit()
        return float(fitted.metrics[keys.LOSS])


class Steps:
    """The same batch some times; every step is marked, and the last one may be profiled."""

    batch: Batch
    batch_size: int

    def __init__(self, card: Card, steps: int, profiled: bool = False) -> None:
        self.card, self.steps, self.profiled = card, steps, profiled
        self.marks: list[Any] = []
        self.counts: list[int] = []
        self.counter: Operations | None = None
        self.profiler: Any = None

    def __len__(self) -> int:
        return self.steps + self.profiled

    def epoch(self, e: int, start: int = 0) -> Iterator[Batch]:
        for _ in range(self.steps):
            self._mark()
            yield self.batch
        self._mark()
        if self.profiled:
            self.card.wait()
            kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * self.card.gpu
            with profile(activities=kinds) as self.profiler:
                yield self.batch
                self.card.wait()

    def _mark(self) -> None:
        self.marks.append(self.card.mark())
        if self.counter is not None:
            self.counts.append(self.counter.count)

    def timed(self) -> float:
        """Median of the milliseconds between two marks, after the warm-up."""
        return statistics.median(self.card.milliseconds(self.marks)[WARM_UP:])


class Operations(TorchDispatchMode):
    """Counts operations that are no views."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


@dataclass
class Counted:
    """Of one eager step."""

    flops: float
    operations: int


def count(case: Case, batch: int, precision: str) -> Counted:
    """FLOPs and operations of the second of two eager steps."""
    steps = Steps(case.card, 2)
    with FlopCounterMode(display=False) as flops, Operations() as steps.counter:
        with environment(graphed.OPT_OUT, "1"):
            case.fit(batch, precision, steps, None)
    first, second, end = steps.counts
    assert end > second > first
    return Counted(flops.get_total_flops() / 2, end - second)


@contextlib.contextmanager
def environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


# --- torch.compile -----------------------------------------------------------------------


def _attend(block: Block, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    return block.attn(block.norm1(x), attn_mask=mask)


def _widen(block: Block, x: torch.Tensor) -> torch.Tensor:
    return block.mlp(block.norm2(x))


@contextlib.contextmanager
def compiled(method: torch.nn.Module, backend: str) -> Iterator[None]:
    """``method`` with compiled branches of its blocks and patch embeddings. The sum with the drop
    path stays outside: its rate is another in every block, and would be compiled as often."""
    import torch._dynamo

    torch._dynamo.reset()
    torch._dynamo.config.recompile_limit = 64
    attend = torch.compile(_attend, dynamic=False, backend=backend)
    widen = torch.compile(_widen, dynamic=False, backend=backend)

    def forward(block: Block, x: Any, attn_mask: Any = None, is_causal: bool = False) -> Any:
        assert not is_causal
        x = x + block.drop_path1(attend(block, x, attn_mask))
        return x + block.drop_path2(widen(block, x))

    embed = torch.compile(PatchEmbed.forward, dynamic=False, backend=backend)
    changed = []
    for module in method.modules():
        if isinstance(module, Block):
            module.forward = types.MethodType(forward, module)
            changed.append(module)
        elif isinstance(module, PatchEmbed):
            module.forward = types.MethodType(embed, module)
            changed.append(module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


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
    began: float = 0.0

    @property
    def key(self) -> tuple[str, str, str, int, str]:
        return (*self.case, self.precision, self.batch, self.way)


def measure(
    row: Row, case: Case, counted: Counted, args: argparse.Namespace, recorder: Any
) -> None:
    """Fill ``row``."""
    card = case.card
    graph = "graph" in row.way
    if graph and not case.method.capturable:
        raise RuntimeError("this backbone's steps cannot be recorded")
    if graph and not card.gpu and recorder is None:
        raise RuntimeError("a CUDA graph needs a GPU")
    steps = Steps(card, args.steps + WARM_UP, profiled=True)
    with contextlib.ExitStack() as around:
        around.enter_context(environment(graphed.OPT_OUT, "" if graph else "1"))
        if "compiled" in row.way:
            around.enter_context(compiled(case.method, args.backend))
        row.loss = case.fit(
            row.batch, row.precision, steps, recorder() if graph and recorder else None
        )
    row.ms, row.counted = steps.timed(), counted
    row.share = counted.flops / row.ms / 1e9 / card.tflops[row.precision]
    row.hours = CLOUDS * case.settings.epochs / row.batch * row.ms / 3.6e6
    if card.gpu:
        row.gib = torch.cuda.max_memory_reserved(card.device) / 2**30
        events = steps.profiler.events()
        on_gpu = [e for e in events if e.device_type == torch.autograd.DeviceType.CUDA]
        row.kernels = len(on_gpu)
        row.busy = sum(e.time_range.elapsed_us() for e in on_gpu) / 1e3
        row.host_calls = sum(e.name.startswith(HOST_CALLS) for e in events)


def table(rows: list[Row], teachers: dict[str, str]) -> str:
    """Rows as markdown, in the order of cases."""
    done = {row.key: row for row in rows if not row.failed}
    lines = [
        "| model | precision | batch | step | ms/step | samples/s | / eager | loss | peak | busy, ms |"
        " kernels | host calls | operations | memory, GiB | hours | + teacher |",
        "|---" * 16 + "|",
    ]
    for row in sorted(rows, key=lambda r: (r.case, r.precision, r.batch)):
        experiment, method = row.case
        head = f"| {experiment}: {method} | {row.precision} | {row.batch} | {row.way} | "
        if row.failed or row.counted is None:
            lines.append(f"{head}{row.failed} |" + " |" * 11)
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
        for experiment in args.experiments:
            for method in args.methods:
                for precision in args.precisions:
                    # fp32 and compilation of every batch would cost minutes
                    batches = args.batches
                    if precision == "fp32" or name == "compiled":
                        batches = batches[:1]
                    if precision == "fp32" and name == "compiled":
                        continue
                    for batch in batches:
                        for way in ROUNDS[name]:
                            rows.append(Row((experiment, method), precision, batch, way))
    return rows


def main(argv: list[str] | None = None, recorder: Any = None) -> list[Row]:
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
        row.began = time.perf_counter()
        try:
            if case is None or (case.experiment, case.method_name) != row.case:
                case = None
                card.clean()
                case = Case(card, *row.case, args.set)
            like = (*row.case, row.precision, row.batch)
            if like not in counts:
                counts[like] = count(case, row.batch, row.precision)
            card.clean()
            measure(row, case, counts[like], args, recorder)
        except Exception as error:  # a row that fails must not take the others with it
            row.failed = f"failed: {type(error).__name__}: {str(error).splitlines()[0][:200]}"
        note = row.failed or f"{row.ms:.2f} ms/step"
        spent = time.perf_counter() - row.began
        print(*row.key, note, f"({spent:.0f} s)", file=sys.stderr, flush=True)
    print()
    print(table(rows, {"sa3df": "mae"}))
    print(f"\nwhole run: {time.perf_counter() - began:.0f} s")
    return rows


if __name__ == "__main__":
    main()
