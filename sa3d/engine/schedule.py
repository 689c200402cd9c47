"""Learning rate by fractional epoch: linear warm-up from 0, then cosine."""

from __future__ import annotations

import math


def learning_rate(
    epoch: float, *, peak: float, epochs: float, warmup: float = 0.0, floor: float = 0.0
) -> float:
    """Learning rate of the step that begins at fractional ``epoch``.

    Per iteration, not per epoch: epoch e, step i of n is ``e + i / n``. (The public Point-MAE
    code steps once an epoch with the epoch just finished, so its first two epochs both run at
    the starting rate; that lag is not kept.)

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
