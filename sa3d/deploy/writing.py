"""Models written for other programs, each file tested before it is kept."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from sa3d.deploy.deployable import Deployable, deployable
from sa3d.deploy.parity import Feeds, check_parity
from sa3d.utils.files import write_whole
from sa3d.utils.places import check_output


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Attributes:
        path: its.
        size: in bytes.
        difference: the largest between its answers and the model's.
    """

    path: Path
    size: int
    difference: float


def check_format(out: Path) -> None:
    """Refuse, before any work is done, a file that could not be written; see
    :func:`~sa3d.utils.places.check_output`."""
    needs = ["onnx", "onnxruntime", "onnxscript"] if out.suffix.lower() == ".onnx" else []
    check_output(out, FORMATS, needs, "--out")


def export(folder: Path, out: Path) -> Exported:
    """Write a model, from the cloud to the answer, in the format that the suffix of ``out`` says.

    Args:
        folder: of the exported model.
        out: the file.

    Raises:
        CheckpointError: no such model, of a kind that cannot be exported, or a file that would not
            answer as it does; then nothing is written.
        WriteError: full disk, no permission.
    """
    model = deployable(folder)
    make = FORMATS[out.suffix.lower()]
    with _quiet(), torch.no_grad():
        data, run = make(model)
        difference = check_parity(model, run)
    write_whole(out, data)
    return Exported(out, len(data), difference)


Run = Callable[[Feeds], list[Any]]


def _onnx(model: Deployable) -> tuple[bytes, Run]:
    import onnxruntime

    from sa3d.deploy.onnx_operators import TRANSLATIONS

    program = torch.onnx.export(
        _traced(model),
        dynamo=True,
        custom_translation_table=TRANSLATIONS,
        input_names=model.inputs,
        output_names=model.outputs,
        verbose=False,
        optimize=False,  # it takes a summand of 1e-8 for none: 1 / 0 at a distance of zero
    )
    assert program is not None
    proto = program.model_proto
    for name, value in model.metadata().items():
        proto.metadata_props.add(key=name, value=value)
    data: bytes = proto.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return data, lambda feeds: session.run(None, dict(feeds))


def _torch(model: Deployable) -> tuple[bytes, Run]:
    buffer = io.BytesIO()
    torch.export.save(_traced(model), buffer, extra_files=model.metadata())
    data = buffer.getvalue()
    loaded = torch.export.load(io.BytesIO(data)).module()

    def run(feeds: Mapping[str, Any]) -> list[Any]:
        found = loaded(*(torch.from_numpy(value) for value in feeds.values()))
        return [each.numpy() for each in (found if isinstance(found, tuple) else (found,))]

    return data, run


def _traced(model: Deployable) -> torch.export.ExportedProgram:
    batch, points = torch.export.Dim("batch"), torch.export.Dim("points")
    # sizes that differ from all that a model has: equal ones would be taken for the same number
    clouds = torch.from_numpy(np.random.default_rng(0).random((2, 37, 3), dtype=np.float32))
    given: tuple[torch.Tensor, ...] = (clouds,)
    shapes: tuple[dict[int, Any], ...] = ({0: batch, 1: points},)
    if model.categories:
        given, shapes = (clouds, torch.zeros(2, dtype=torch.int64)), (*shapes, {0: batch})
    program = torch.export.export(model.graph, given, dynamic_shapes=shapes)
    for module in program.graph_module.modules():
        assert isinstance(module, torch.fx.GraphModule)
        for node in module.graph.nodes:
            node.meta.pop("stack_trace", None)  # where this program lies on this machine
    return program


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch's exporters tell their own developers many things."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


FORMATS: Final[Mapping[str, Callable[[Deployable], tuple[bytes, Run]]]] = {
    ".onnx": _onnx,
    ".pt2": _torch,
}
"""Suffix of a file: what makes its bytes, and asks them."""
