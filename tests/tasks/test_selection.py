"""Which epoch is chosen, and what of a test that is read after every epoch is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sa3d.errors import TrainingError
from sa3d.metrics import names as keys
from sa3d.tasks.selection import Measured, Selection

VAL, TEST = np.arange(3), np.arange(3, 7)


class Journal:
    """Keeps what a tracker gets."""

    def __init__(self) -> None:
        self.values: list[dict[str, float]] = []

    def metrics(self, values: dict[str, float], step: int) -> None:
        self.values.append(dict(values))


def selection(
    val: list[Measured], test: list[Measured] | None = None
) -> tuple[Selection, nn.Linear, Journal]:
    """A selection that measures the given values, one an epoch."""
    validations, tests = iter(val), iter(test or [])
    model, journal = nn.Linear(1, 1), Journal()
    tracker: Any = journal
    made = Selection(
        model,
        lambda rows: next(validations),
        lambda rows: next(tests),
        tracker,
        keys.VAL_MIOU,
        VAL,
        TEST if test is not None else None,
        tested=keys.TEST_MIOU_EPOCH,
    )
    return made, model, journal


def run(made: Selection, model: nn.Linear, epochs: int) -> None:
    """The weight of an epoch is its number."""
    for epoch in range(epochs):
        with torch.no_grad():
            model.weight.fill_(float(epoch))
        made(epoch, 10 * (epoch + 1))


def test_the_best_score_and_of_equals_the_lower_loss() -> None:
    made, model, _ = selection(
        [Measured(0.5, 1.0), Measured(0.7, 0.9), Measured(0.7, 0.4), Measured(0.7, 0.4)]
    )
    run(made, model, 4)
    assert (made.epoch, made.score) == (2, (0.7, -0.4))
    assert made.weights["weight"].item() == 2.0


def test_test_never_chooses() -> None:
    val = [Measured(0.9, 0.1), Measured(0.5, 0.1)]
    made, model, _ = selection(val, [Measured(0.1, 0.1), Measured(1.0, 0.1)])
    run(made, model, 2)
    assert made.epoch == 0
    assert made.best_on_test == Measured(1.0, 0.1)


def test_the_category_miou_of_the_best_epoch_on_test_is_of_that_epoch() -> None:
    val = [Measured(0.5, 0.1, 0.4)] * 3
    test = [Measured(0.5, 0.1, 0.9), Measured(0.8, 0.1, 0.6), Measured(0.7, 0.1, 0.7)]
    made, model, journal = selection(val, test)
    run(made, model, 3)
    assert made.best_on_test == Measured(0.8, 0.1, 0.6)
    assert [each[keys.TEST_MIOU_CATEGORY_EPOCH] for each in journal.values] == [0.9, 0.6, 0.7]
    assert {each[keys.VAL_MIOU_CATEGORY] for each in journal.values} == {0.4}

    again, _, _ = selection(val, test)
    again.load_state_dict(made.state_dict())
    assert again.best_on_test == made.best_on_test
    assert (again.epoch, again.score) == (made.epoch, made.score)


def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    made, model, _ = selection([Measured(0.5, float("nan"))])
    with pytest.raises(TrainingError, match=r"val/loss became nan after epoch 0"):
        run(made, model, 1)
