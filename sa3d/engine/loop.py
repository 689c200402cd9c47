"""The training loop. It calls a method and knows nothing else of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sa3d.config.optim import OptimConfig
from sa3d.engine import optim, random_state, tune
from sa3d.engine.checkpoint import Checkpoint
from sa3d.engine.distributed import ALONE, Processes
from sa3d.engine.graphed import GraphedPass, Recorder, recorder_of
from sa3d.engine.metric_buffer import MetricBuffer, NonFiniteError
from sa3d.engine.precision import autocast
from sa3d.engine.schedule import learning_rate, learning_rate_of_epoch
from sa3d.engine.signals import Stopped, StopSignals
from sa3d.engine.types import LOSS_KEY, Progress, Source, Stateful, TrainableModule
from sa3d.errors import CheckpointError, TrainingError
from sa3d.metrics import names as keys
from sa3d.tracking.journal import Tracker
from sa3d.utils.progress import ProgressBar

LOG_STEPS = 20  # optimiser steps between two readings of the device; also at ends of epochs
_WAIT_SHOWN = 0.05  # share of time spent in waiting for batches that the progress bar mentions
_AGREE_STEPS = 10  # with several processes, steps between two votes on stopping and saving


@dataclass(frozen=True)
class Position:
    """What comes next: batch ``batch`` of 0-based ``epoch``, after ``step`` optimiser steps."""

    epoch: int = 0
    batch: int = 0
    step: int = 0


@dataclass(frozen=True)
class Fitted:
    """What :meth:`Trainer.fit` did. ``seconds`` and ``steps`` count those before a resume too;
    ``metrics`` are those last logged."""

    steps: int
    seconds: float
    metrics: Mapping[str, float]
    resumed_at: Position | None


class EpochEnd(Protocol):
    """Called by the main process after each epoch, before that epoch's checkpoint."""

    def __call__(self, epoch: int, step: int) -> None:
        """``epoch`` just ended, 0-based, after ``step`` optimiser steps in all."""


@dataclass
class Trainer:
    """Trains ``method`` on ``source`` as ``settings`` say, from the start or its checkpoint.

    Args:
        method: an ``nn.Module`` that is also a :class:`~sa3d.engine.types.TrainableModule`.
        source: batches.
        settings: optimiser and schedule.
        seed: of all randomness.
        device: where ``method`` lies.
        prepare: a batch of ``source`` to what ``training_step`` gets (device, augmentation);
            may draw from ``progress.generator``.
        tracker: gets the metrics; used by the main process only.
        training: name of this training for the tracker; empty if it is the only one of its run.
        checkpoint: where to save and resume; None saves nothing.
        label: what the progress bar calls this training; empty shows none.
        processes: this process among those of the run.
        layers, layer_decay: see :func:`sa3d.engine.optim.parameter_groups`.
        epoch_end: see :class:`EpochEnd`.
        extra: further state to save, by name.
        recorder: see :mod:`sa3d.engine.graphed`; by default a CUDA graph where it is possible.
    """

    method: nn.Module
    source: Source
    settings: OptimConfig
    seed: int
    device: torch.device
    prepare: Callable[[Any, Progress], Any]
    tracker: Tracker
    checkpoint: Checkpoint | None
    processes: Processes = ALONE
    label: str = ""
    training: str = ""
    layers: Mapping[str, int] | None = None
    layer_decay: float = 1.0
    epoch_end: EpochEnd | None = None
    extra: Mapping[str, Stateful] = field(default_factory=dict)
    recorder: Recorder | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.method, TrainableModule):
            raise TypeError(
                f"{type(self.method).__name__} is not a TrainableModule (sa3d.engine.types)"
            )
        self._method: TrainableModule = self.method
        groups = optim.parameter_groups(
            self.method,
            self.settings.weight_decay,
            exempt=self._method.no_weight_decay(),
            layers=self.layers,
            layer_decay=self.layer_decay,
        )
        self._trained = [p for group in groups for p in group["params"]]
        self._optimiser = optim.adamw(groups, self.settings)
        self._forward = _distributed(_Step(self.method), self.processes)
        self._generator = torch.Generator(self.device)
        self._autocast = autocast(self.device, self.settings.precision)
        self._pass = self._choose_pass()
        self._buffer = MetricBuffer(self.processes)
        self._seconds = 0.0
        self._means: dict[str, float] = {}
        self._position = Position()
        # an epoch whose batches `accumulate` does not divide ends with a smaller step
        self._steps_per_epoch = -(-len(self.source) // self.settings.accumulate)

    def fit(self) -> Fitted:
        """Train to the end.

        Raises:
            Stopped: SIGTERM or SIGINT came; everything is saved.
            TrainingError: a loss or gradient is not finite; the checkpoint is the last good one.
            CheckpointError: the checkpoint cannot be read or written, or is another run's.
        """
        random_state.seed_all(self.seed, self.processes.rank)
        resumed = self._load()
        began = time.perf_counter() - self._seconds
        with StopSignals() as signals, self._progress_bar() as bar:
            for epoch in range(self._position.epoch, self.settings.epochs):
                self._epoch(epoch, signals, began, bar)
        self._seconds = time.perf_counter() - began
        return Fitted(self._position.step, self._seconds, self._means, resumed)

    # --- one epoch, one step -------------------------------------------------------------

    def _epoch(self, epoch: int, signals: StopSignals, began: float, bar: ProgressBar) -> None:
        self.method.train()
        self._buffer.resume_clock()
        batches = self.source.epoch(epoch, start=self._position.batch)
        with contextlib.closing(batches):  # a thread may make them
            while group := self._next(batches):
                self._step(epoch, group)
                bar.update(note=self._note(epoch))
                at = self._position
                ended = at.batch >= len(self.source)
                if not ended:
                    stop, due = self._votes(signals)
                    if stop or due or len(self._buffer) >= LOG_STEPS:
                        self._log()
                    if stop or due:
                        self._save(began)
                    if stop:
                        raise Stopped(signals.signum or 15)
        self._log()
        self._buffer.pause_clock()
        if self.epoch_end is not None and self.processes.main:
            self.epoch_end(epoch, self._position.step)
        self._position = Position(epoch + 1, 0, self._position.step)
        saves = self.checkpoint is not None and (self.checkpoint.epochs or self.checkpoint.due())
        stop, save = self.processes.any(bool(signals.signum), saves)
        if stop or save:
            self._save(began)
        if stop:
            raise Stopped(signals.signum or 15)

    def _next(self, batches: Iterator[Any]) -> list[Any]:
        """The batches of the next optimiser step; none at the end of an epoch."""
        began = time.perf_counter()
        group = list(islice(batches, self.settings.accumulate))
        self._buffer.waited(time.perf_counter() - began)
        return group

    def _step(self, epoch: int, group: list[Any]) -> None:
        """One optimiser step over the batches of ``group``."""
        step = self._position.step
        fraction = step / self._steps_per_epoch
        rate = self._rate(fraction)
        optim.set_learning_rate(self._optimiser, rate)
        logged: list[dict[str, Tensor]] = []
        for number, batch in enumerate(group):
            progress = self._progress(epoch, step, number)
            with self._autocast:
                prepared = self.prepare(batch, progress)
            with self._synchronised(number == len(group) - 1):
                logged.append(self._pass(prepared, progress, len(group)))
        norm = optim.clip(self._trained, self.settings.clip)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self._method.after_step(progress)
        means = logged[0]
        if len(logged) > 1:
            means = {k: torch.stack([values[k] for values in logged]).mean() for k in means}
        samples = len(group) * self.source.batch_size * self.processes.world
        self._buffer.add(means | {keys.GRAD_NORM: norm}, samples)
        self._position = Position(epoch, self._position.batch + len(group), step + 1)

    def _choose_pass(self) -> Callable[[Any, Progress, int], dict[str, Tensor]]:
        world = self.processes.world
        recorder = self.recorder or recorder_of(self.method, self.device, world, self._generator)
        if recorder is None or self.settings.accumulate > 1:
            return self._eager_pass
        graphed = GraphedPass(
            lambda batch, progress: self._eager_pass(batch, progress, 1), self._trained, recorder
        )
        return lambda batch, progress, _: graphed(batch, progress)

    def _eager_pass(self, batch: Any, progress: Progress, batches: int) -> dict[str, Tensor]:
        """Forward and backward of one of the ``batches`` of a step; its detached values."""
        with self._autocast:
            values = self._forward(batch, progress)
        (values[LOSS_KEY] / batches).backward()
        return {name: value.detach() for name, value in values.items()}

    def _rate(self, fraction: float) -> float:
        s = self.settings
        values: dict[str, float] = {
            "peak": s.lr,
            "epochs": s.cosine_epochs or s.epochs,
            "warmup": s.warmup_epochs,
            "floor": s.min_lr,
        }
        if s.schedule == "epoch":
            return learning_rate_of_epoch(int(fraction), **values)
        return learning_rate(fraction, **values)

    def _progress(self, epoch: int, step: int, number: int) -> Progress:
        seed = random_state.derive(self.seed, step, number, self.processes.rank)
        self._generator.manual_seed(seed)
        return Progress(epoch, self.settings.epochs, step, self._steps_per_epoch, self._generator)

    def _synchronised(self, last: bool) -> contextlib.AbstractContextManager[None]:
        """Gradients are exchanged once a step, with its last batch."""
        if isinstance(self._forward, DistributedDataParallel) and not last:
            return self._forward.no_sync()
        return contextlib.nullcontext()

    def _votes(self, signals: StopSignals) -> tuple[bool, bool]:
        """(stop, save), the same in every process."""
        if self.processes.world > 1 and self._position.step % _AGREE_STEPS:
            return False, False
        due = self.checkpoint is not None and self.checkpoint.due()
        stop, save = self.processes.any(bool(signals.signum), due)
        return stop, save

    # --- telling -------------------------------------------------------------------------

    def _log(self) -> None:
        if not len(self._buffer):
            return
        step = self._position.step
        try:
            self._means = self._buffer.pop_means()
        except NonFiniteError as bad:
            if self.processes.main:
                self.tracker.metrics({keys.NONFINITE: 1.0}, step, self.training)
                self.tracker.flush()
            raise TrainingError(self._explain(bad, step)) from None
        self._means[keys.LR] = self._rate((step - 1) / self._steps_per_epoch)
        if self.processes.main:
            epoch = {keys.EPOCH: step / self._steps_per_epoch}
            self.tracker.metrics(self._means | epoch, step, self.training)

    def _explain(self, bad: NonFiniteError, step: int) -> str:
        at = step - bad.steps_ago
        kept = ""
        if self.checkpoint is not None and self.checkpoint.path.is_file():
            kept = f"; {self.checkpoint.path} holds the last good state"
        return (
            f"{bad.name} became {bad.value} at step {at} (epoch "
            f"{(at - 1) // self._steps_per_epoch}){kept}. Try a lower lr, a clip, or "
            "precision fp32"
        )

    def _progress_bar(self) -> ProgressBar:
        return ProgressBar(
            self.label,
            self._steps_per_epoch * self.settings.epochs,
            "steps",
            initial=self._position.step,
            quiet=not (self.label and self.processes.main),
        )

    def _note(self, epoch: int) -> str:
        """What the progress bar shows beside the steps."""
        note = f"epoch {epoch + 1}/{self.settings.epochs}"
        if self._means:
            note += f", loss {self._means[keys.LOSS]:.4g}"
            note += f", {self._means[keys.SAMPLES_PER_SECOND]:.0f} samples/s"
            if (waited := self._means[keys.DATA_WAIT]) >= _WAIT_SHOWN:
                note += f", {waited:.0%} of the time waiting for data"
        return note

    # --- saving --------------------------------------------------------------------------

    def _save(self, began: float) -> None:
        if self.checkpoint is None:
            return
        generators = self.processes.gather(random_state.capture(self.device))
        if not self.processes.main:
            return
        self.tracker.flush()  # the journal must not lag behind the checkpoint
        self.checkpoint.save(
            {
                "position": vars(self._position),
                "seconds": time.perf_counter() - began,
                "processes": self.processes.world,
                "onednn": tune.onednn_in_use(),
                "generators": generators,
                "means": self._means,
                "method": self.method.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "extra": {name: part.state_dict() for name, part in self.extra.items()},
            }
        )

    def _load(self) -> Position | None:
        state = self.checkpoint.load(self.device) if self.checkpoint is not None else None
        if state is None:
            if self.processes.main:
                self.tracker.resume(-1, self.training)  # a killed run may have recorded steps
            return None
        assert self.checkpoint is not None
        if state["processes"] != self.processes.world:
            raise CheckpointError(
                f"{self.checkpoint.path} was written by {state['processes']} processes, this "
                f"run has {self.processes.world}; start as many, or delete it to begin again"
            )
        try:
            self.method.load_state_dict(state["method"])
            self._optimiser.load_state_dict(state["optimiser"])
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"{self.checkpoint.path} does not fit the model: {str(error).splitlines()[0]}; "
                "delete it to begin again"
            ) from None
        for name, part in self.extra.items():
            part.load_state_dict(state["extra"][name])
        if self.device.type == "cpu":
            tune.use_onednn(state["onednn"])  # the other route rounds differently
        random_state.restore(state["generators"][self.processes.rank], self.device)
        self._position = Position(**state["position"])
        self._seconds, self._means = state["seconds"], state["means"]
        if self.processes.main:
            self.tracker.resume(self._position.step, self.training)
        return self._position


class _Step(nn.Module):
    """Makes ``training_step`` the forward pass, which is what DDP watches."""

    def __init__(self, method: nn.Module) -> None:
        super().__init__()
        self.method = method

    def forward(self, batch: Any, progress: Progress) -> dict[str, Tensor]:
        step: dict[str, Tensor] = self.method.training_step(batch, progress)  # type: ignore[operator]
        return step


def _distributed(step: nn.Module, processes: Processes) -> nn.Module:
    """``step`` itself, or wrapped so that its gradients are means over the processes."""
    if processes.world == 1:
        return step
    # Every parameter that wants a gradient gets one in every step: a method freezes what it does
    # not train before it comes here. Looking for unused ones would cost a walk of the graph.
    return DistributedDataParallel(step)
