"""Settings of the masks of hard patches. Nothing in here imports torch."""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from pydantic import Field

from sa3d.masking.settings import MaskConfig

RESULT_NEUTRAL: Final = True


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
