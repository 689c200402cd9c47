"""What `benchmarks/gpu.py` trains: a few steps of a method by the engine's own loop, timed,
counted, profiled, and with compiled blocks."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import statistics
import time
import types
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, register_flop_formula

from sa3d import models
from sa3d.config.loading import load_experiment
from sa3d.data import transforms
from sa3d.engine import graphed
from sa3d.engine.distributed import ALONE, Processes
from sa3d.engine.loop import Trainer
from sa3d.layers.batch_norm import FUSED
from sa3d.layers.patches import PatchEmbed
from sa3d.layers.transformer import Block
from sa3d.methods.build import build_method
from sa3d.metrics import names as keys
from sa3d.tracking.journal import NullTracker

WARM_UP = 4  # steps before the first that is timed


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
        pairs = itertools.pairwise(marks)
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


# --- what is trained ---------------------------------------------------------------------


class Clouds(NamedTuple):
    """What the data loader's batches hold for pre-training; that one would import h5py."""

    points: torch.Tensor


class Case:
    """A method with its weights, trained for a few steps again and again from the same start."""

    def __init__(self, card: Card, experiment: str, method: str, overrides: list[str]) -> None:
        config = load_experiment(experiment, Path(__file__).parents[1] / "params.yaml", overrides)
        assert config.pretrain is not None
        self.card, self.points = card, config.pretrain.data.points
        self.settings = next(s for s in config.methods.values() if s.method == method)
        self.experiment, self.method_name = experiment, method
        torch.manual_seed(0)
        self.model, self.precision = config.model, "fp32"
        self.method = self._build()
        self.start = {name: value.clone() for name, value in self.method.state_dict().items()}

    def _build(self) -> Any:
        teacher = models.build_backbone(self.model) if self.settings.has_teacher else None
        settings = self.settings.model_copy(update={"precision": self.precision})
        return build_method(settings, self.model, teacher).to(self.card.device)

    def choose(self, precision: str) -> None:
        """Train in ``precision`` from now on: a teacher's weights are kept in it."""
        if self.precision != precision:
            self.precision = precision
            self.method = self._build()

    def fit(
        self,
        batch: int,
        precision: str,
        steps: Steps,
        recorder: graphed.Recorder | None,
        processes: Processes = ALONE,
    ) -> float:
        """Train ``steps``; the mean loss of the last ones."""
        self.choose(precision)
        self.method.load_state_dict(self.start)
        self.method.zero_grad(set_to_none=True)  # a row that failed may have left gradients
        augment = transforms.get(self.settings.augment)
        random = torch.Generator().manual_seed(batch)
        points = torch.randn(batch, self.points, 3, generator=random)
        points /= points.norm(dim=-1).amax(1)[:, None, None]
        steps.batch, steps.batch_size = Clouds(points), batch

        def prepare(given: Clouds, progress: Any) -> Clouds:
            moved = given.points.to(self.card.device, non_blocking=True)
            return Clouds(augment(moved, progress.generator))

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
            processes=processes,
        ).fit()
        return float(fitted.metrics[keys.LOSS])


class Steps:
    """The same batch some times; every step is marked, and the last one may be profiled."""

    batch: Clouds
    batch_size: int

    def __init__(self, card: Card, steps: int, profiled: bool = False) -> None:
        self.card, self.steps, self.profiled = card, steps, profiled
        self.marks: list[Any] = []
        self.counts: list[int] = []
        self.counter: Operations | None = None
        self.profiler: Any = None

    def __len__(self) -> int:
        return self.steps + self.profiled

    def epoch(self, e: int, start: int = 0) -> Generator[Clouds, None, None]:
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
        # "unsafe" views are views too, of what nobody else holds
        self.count += not (func.is_view or func is torch.ops.aten._unsafe_view.default)
        return func(*args, **(kwargs or {}))


@register_flop_formula(torch.ops.point_ops.attention)
def _attention_flops(qkv: Any, heads: int, *_: Any, out_shape: Any = None) -> int:
    """Two products of (n, n) weights with (n, D) rows, in every head."""
    batch, n, width = qkv
    return int(2 * 2 * batch * n * n * (width // 3))


@register_flop_formula(torch.ops.point_ops.attention_backward)
def _attention_backward_flops(
    grad: Any, qkv: Any, out: Any, sums: Any, heads: int, *_: Any, out_shape: Any = None
) -> int:
    """Twice the forward products; what is computed once more instead of kept does not count."""
    return 2 * _attention_flops(qkv, heads)


@dataclass
class Counted:
    """Of one eager step."""

    flops: float
    operations: int


def count(case: Case, batch: int, precision: str) -> Counted:
    """FLOPs and operations of the second of two eager steps."""
    steps = Steps(case.card, 2)
    eager = environment(graphed.OPT_OUT, "1")
    with eager, FlopCounterMode(display=False) as flops, Operations() as steps.counter:
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


@contextlib.contextmanager
def torch_embedding(device: torch.device) -> Iterator[None]:
    """Patch embeddings by torch's operators, one after the other, instead of fused kernels."""
    before = set(FUSED)
    FUSED.discard(device.type)
    try:
        yield
    finally:
        FUSED.update(before)


# --- torch.compile -----------------------------------------------------------------------


def _attend(
    block: Block, x: torch.Tensor, mask: torch.Tensor | None, last: int | None
) -> torch.Tensor:
    return block.attn(block.norm1(x), mask, last)


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

    def forward(block: Block, x: Any, mask: Any = None, last: int | None = None) -> Any:
        mixed = block.drop_path(attend(block, x, mask, last))
        x = (x if last is None else x[:, x.shape[1] - last :]) + mixed
        return x + block.drop_path(widen(block, x))

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
