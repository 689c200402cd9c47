"""Forward and backward pass of a training step as one CUDA graph.

The two passes of a pre-training step are some thousand short kernels. Launching them one after the
other takes the host longer than the GPU needs to run them. A CUDA graph holds all of them, and is
launched with one call.

A graph repeats what was recorded: the same kernels on the same memory, with every Python number as
it was. So

* a batch is copied into the memory that the recorded one had, and gradients and values are found
  in the memory that they were recorded in;
* random numbers differ from step to step all the same: a graph reads the states of the generators
  that it knows when it is launched, and moves them on as the eager step does;
* Python numbers may change only where a new graph is recorded, which is at every epoch. Whatever
  changes with the step (learning rate, clipping, optimiser, EMA update) stays outside.

A module says with ``capturable = True`` that its ``training_step`` is of this kind: it depends on
the batch, the epoch and the generators alone, and no shape and no decision in it depends on values
that the device has computed. Every other module is trained eagerly, and so are steps of several
batches, runs of several processes, and everything on the CPU. ``SA3D_NO_CUDA_GRAPH=1`` trains
eagerly everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sa3d.engine.types import Progress
from sa3d.errors import TrainingError

OPT_OUT = "SA3D_NO_CUDA_GRAPH"

Values = dict[str, Tensor]
Work = Callable[[], Values]


class Recorder(Protocol):
    """Records work and runs it again; :class:`CudaRecorder`, or in tests a stand-in for the CPU."""

    def prepare(self, work: Work) -> Values:
        """Do ``work`` in the ordinary way, so that everything it needs is loaded and compiled."""

    def record(self, work: Work) -> tuple[Values, Callable[[], None]]:
        """Record ``work`` without doing it.

        Returns:
            The result, not yet computed, and what computes it: each call does the work once, on
            the memory that was recorded.
        """


class CudaRecorder:
    """CUDA graphs on ``device`` that read the states of ``generators`` and of torch's own."""

    def __init__(self, device: torch.device, generators: Sequence[torch.Generator]) -> None:
        self._generators = generators
        # autograd remembers on which stream a parameter was first used: so it is one for both
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def prepare(self, work: Work) -> Values:
        """See :class:`Recorder`."""
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            values = work()
        current.wait_stream(self._stream)
        return values

    def record(self, work: Work) -> tuple[Values, Callable[[], None]]:
        """See :class:`Recorder`."""
        graph = torch.cuda.CUDAGraph()
        for generator in self._generators:
            graph.register_generator_state(generator)
        # "thread_local": other threads, such as the one that reads the GPU's load, go on
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            values = work()
        return values, graph.replay


class GraphedPass:
    """Calls ``eager`` once an epoch, records it with the second step, and then repeats that.

    Args:
        eager: forward and backward of a batch. It leaves gradients in ``.grad`` and returns
            detached values.
        parameters: those that get gradients.
        recorder: how the pass is recorded.
    """

    def __init__(
        self,
        eager: Callable[[Any, Progress], Values],
        parameters: Sequence[nn.Parameter],
        recorder: Recorder,
    ) -> None:
        self._eager, self._parameters, self._recorder = eager, parameters, recorder
        self._kind: object = None
        self._recorded: _Recorded | None = None

    def __call__(self, batch: Any, progress: Progress) -> Values:
        """As ``eager``; all gradients must be None before.

        Raises:
            TrainingError: the pass cannot be recorded.
            TypeError: a batch that is no tensor and no tuple, list or dict of tensors.
        """
        leaves, form = pytree.tree_flatten(batch)
        kind = (progress.epoch, progress.epochs, form, [_kind(leaf) for leaf in leaves])
        if kind != self._kind:
            # the memory of a graph of other batches, or of the last epoch, is free from here on
            self._kind, self._recorded = kind, None
            return self._recorder.prepare(lambda: self._eager(batch, progress))
        if self._recorded is None:
            self._recorded = self._record(leaves, form, progress)
        return self._recorded.run(leaves)

    def _record(self, leaves: list[Any], form: pytree.TreeSpec, progress: Progress) -> _Recorded:
        inputs = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        batch = pytree.tree_unflatten(inputs, form)
        try:
            values, replay = self._recorder.record(lambda: self._eager(batch, progress))
        except RuntimeError as error:
            # torch raises again when it ends the recording; what came first names the cause
            cause = str(error.__context__ or error).splitlines()[0]
            raise TrainingError(
                f"the training step cannot be recorded as a CUDA graph: {cause}; "
                f"{OPT_OUT}=1 trains without"
            ) from error
        return _Recorded(inputs, values, replay, [(p, p.grad) for p in self._parameters])


class _Recorded:
    """A recorded pass, and the memory that it works on."""

    def __init__(
        self,
        inputs: list[Any],
        values: Values,
        replay: Callable[[], None],
        gradients: list[tuple[nn.Parameter, Tensor | None]],
    ) -> None:
        self._inputs, self._values, self._replay = inputs, values, replay
        self._gradients = gradients

    def run(self, leaves: list[Any]) -> Values:
        """The values of another batch; gradients in ``.grad``."""
        for mine, theirs in zip(self._inputs, leaves, strict=True):
            if isinstance(mine, Tensor):
                mine.copy_(theirs, non_blocking=True)
        self._replay()
        for parameter, gradient in self._gradients:
            parameter.grad = gradient  # the optimiser's zero_grad has taken it away
        # copies: the next step writes into the same memory
        return {name: value.clone() for name, value in self._values.items()}


def recorder_of(
    module: nn.Module, device: torch.device, world: int, generator: torch.Generator
) -> Recorder | None:
    """What records the steps of ``module``; None: it is trained eagerly.

    Args:
        module: what is trained.
        device: where.
        world: number of processes.
        generator: of the progress that the steps get.
    """
    refused = os.environ.get(OPT_OUT, "") not in ("", "0")
    if device.type != "cuda" or world > 1 or refused or not getattr(module, "capturable", False):
        return None
    return CudaRecorder(device, [generator])


def _kind(leaf: object) -> object:
    """What must be the same in two batches for the recorded pass to serve both."""
    if isinstance(leaf, Tensor):
        return leaf.shape, leaf.dtype, leaf.device
    if leaf is None or isinstance(leaf, bool | int | float | str):
        return leaf
    raise TypeError(f"a batch holds a {type(leaf).__name__}; tensors and plain values are known")
