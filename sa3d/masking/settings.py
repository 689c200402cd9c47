"""Settings of the mask strategies. Nothing in here imports torch."""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from pydantic import Field

from sa3d.config.base import Frozen

RESULT_NEUTRAL: Final = True


class MaskConfig(Frozen):
    """Settings of a strategy that has none but its name."""

    #: whether it chooses by scores, which not every method has
    needs_scores: ClassVar[bool] = False

    name: str = Field(description="mask strategy: random, block, gc")


class GeometricMaskConfig(MaskConfig):
    """Masks of the geometrically hard patches: the easy-to-hard curriculum."""

    needs_scores: ClassVar = True

    name: Literal["gc"] = Field("gc", description="this strategy")
    end_ratio: float = Field(
        0.5, ge=0.0, le=1.0, description="share of the mask chosen by hardness at the end"
    )
    half_schedule: bool = Field(
        False, description="the curriculum reaches its end after half of the epochs"
    )
