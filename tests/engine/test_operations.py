"""What a training step asks torch for, counted: it does not grow with the batch, and waits for
nothing between two readings of the metrics."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.gpu_steps import Card, Case, Steps, count

NARROW = [  # as deep as published
    "pretrain.data.points=96",
    *(f"model.{name}={value}" for name, value in (("dim", 24), ("heads", 3), ("embed_width", 8))),
    *(f"model.{name}={value}" for name, value in (("groups", 16), ("group_size", 8))),
]
MOST = {"sa3df": 2300, "mae": 1010}  # with the published stochastic depth


class Reads(TorchDispatchMode):
    """Counts values that Python reads; each waits for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module", params=MOST)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(Card(torch.device("cpu")), "point-mae-sa3df", request.param, NARROW)


def test_operations_are_few_and_as_many_for_every_batch(case: Case) -> None:
    few, more = (count(case, batch, "bf16").operations for batch in (2, 6))
    assert few == more
    assert few <= MOST[case.method_name]


def test_nothing_is_read_from_the_device_between_two_log_steps(case: Case) -> None:
    reads = []
    for steps in (2, 5):
        with Reads() as counter:
            case.fit(2, "bf16", Steps(case.card, steps), None)
        reads.append(counter.count)
    assert reads[0] == reads[1] < 60  # those of the end of the epoch
