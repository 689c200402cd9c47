"""Which data set a run reads, and how much of each cloud."""

from __future__ import annotations

from pydantic import Field

from sa3d.config.base import Fraction, Frozen, Positive


class DataConfig(Frozen):
    """The data set of a run."""

    name: str = Field(description="key under `datasets` in params.yaml")
    points: Positive = Field(1024, description="points N drawn from each stored cloud")
    val_fraction: Fraction = Field(
        0.1,
        description="share of the training split carved out for selection, where the data set "
        "has no validation split of its own",
    )
