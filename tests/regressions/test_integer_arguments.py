"""An integer is whatever Python takes for an index: numpy's, an array of one, a tensor of one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import point_ops
import pytest
import torch

CLOUD = torch.rand(2, 12, 3, generator=torch.Generator().manual_seed(0))
FEATURES = torch.rand(2, 12, 4, generator=torch.Generator().manual_seed(1))
CALLS: dict[str, Callable[[object], object]] = {
    "n_samples": lambda n: point_ops.farthest_point_sample(CLOUD, n),
    "start": lambda n: point_ops.farthest_point_sample(CLOUD, 4, start=n),
    "lengths": lambda n: point_ops.farthest_point_sample(CLOUD, 2, lengths=[n, 5]),
    "knn": lambda n: point_ops.knn(CLOUD, CLOUD, n)[1],
    "ball_query": lambda n: point_ops.ball_query(CLOUD, CLOUD, 0.5, n),
    "interpolate": lambda n: point_ops.interpolate(CLOUD, CLOUD, FEATURES, k=n),
}


class Own:
    def __index__(self) -> int:
        return 3


@pytest.mark.parametrize("call", sorted(CALLS))
def test_every_integer_is_accepted(call: str) -> None:
    expected = CALLS[call](3)
    kinds = (np.int64, np.int32, np.uint8, np.intp, lambda n: np.array(n), torch.tensor)
    for number in [*(kind(3) for kind in kinds), Own()]:
        assert torch.equal(CALLS[call](number), expected)


@pytest.mark.parametrize("call", sorted(CALLS))
def test_what_is_no_integer_is_refused(call: str) -> None:
    for value in (
        True,
        np.True_,
        torch.tensor(True),
        3.0,
        np.float64(3),
        torch.tensor(3.0),
        np.array([3, 3]),
        "3",
        None,
    ):
        with pytest.raises(ValueError, match="expected an integer, got"):
            CALLS[call](value)


def test_lengths_may_be_an_array() -> None:
    expected = point_ops.farthest_point_sample(CLOUD, 2, lengths=torch.tensor([4, 5]))
    for lengths in (np.array([4, 5], np.int16), (np.int64(4), 5), [4, 5]):
        assert torch.equal(point_ops.farthest_point_sample(CLOUD, 2, lengths=lengths), expected)
    with pytest.raises(ValueError, match="lengths: expected an integer, got float64"):
        point_ops.farthest_point_sample(CLOUD, 2, lengths=np.array([4.0, 5.0]))


def test_real_numbers_of_numpy() -> None:
    near = point_ops.ball_query(CLOUD, CLOUD, 0.5, 4)
    for radius in (np.float32(0.5), np.float64(0.5)):
        assert torch.equal(point_ops.ball_query(CLOUD, CLOUD, radius, 4), near)
    ones = point_ops.ball_query(CLOUD, CLOUD, 1.0, 4)
    assert torch.equal(point_ops.ball_query(CLOUD, CLOUD, np.int64(1), 4), ones)
    matched = point_ops.assignment(CLOUD, CLOUD.flip(1), eps=0.5)
    assert torch.equal(point_ops.assignment(CLOUD, CLOUD.flip(1), eps=np.float32(0.5)), matched)
    for value in (True, "1", np.float32("nan"), np.float64(0), float("inf"), None):
        with pytest.raises(ValueError, match="radius: expected a positive number"):
            point_ops.ball_query(CLOUD, CLOUD, value, 4)
        with pytest.raises(ValueError, match="eps: expected a positive number"):
            point_ops.assignment(CLOUD, CLOUD, eps=value)
