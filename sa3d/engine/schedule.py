"""Learning rates: a linear warm-up, then a cosine; changed every step or once an epoch."""

from __future__ import annotations

import math


def learning_rate(
    epoch: float, *, peak: float, epochs: float, warmup: float = 0.0, floor: float = 0.0
) -> float:
    """Learning rate of the step that begins at fractional ``epoch``.

    Per iteration, not per epoch: epoch e, step i of n is ``e + i / n`` (GM3D code).

    Args:
        epoch: in [0, epochs].
        peak: rate at the end of the warm-up.
        epochs: where the cosine ends: the length of the run, or more.
        warmup: epochs of linear rise from 0; there ``floor`` plays no part.
        floor: rate at the end of the cosine.
    """
    if epoch < warmup:
        return peak * epoch / warmup
    share = (epoch - warmup) / (epochs - warmup)
    return floor + (peak - floor) * 0.5 * (1.0 + math.cos(math.pi * share))


def learning_rate_of_epoch(
    epoch: int, *, peak: float, epochs: float, warmup: float = 0.0, floor: float = 0.0
) -> float:
    """Learning rate of all steps of the 0-based ``epoch``, as the public Point-MAE and
    Point-M2AE runners set it.

    They move the schedule on once an epoch, with the number of the epoch that has ended. So the
    first two epochs both run at ``floor``, from which the warm-up rises too. The cosine counts
    from epoch 0, not from the end of the warm-up.

    Args:
        epoch: 0, 1, ...
        peak: rate that the warm-up rises to.
        epochs: period of the cosine.
        warmup: epochs of linear rise.
        floor: first rate, and that at the end of the cosine.
    """
    ended = max(0, epoch - 1)
    if ended < warmup:
        return floor + (peak - floor) * ended / warmup
    return floor + (peak - floor) * 0.5 * (1.0 + math.cos(math.pi * ended / epochs))
