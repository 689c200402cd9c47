"""What the settings of every mask strategy share. Nothing in here imports torch."""

from __future__ import annotations

from typing import ClassVar, Final

from pydantic import Field

from sa3d.config.base import Frozen

RESULT_NEUTRAL: Final = True


class MaskConfig(Frozen):
    """Settings of a strategy that has none but its name."""

    #: whether it chooses by scores, which not every method has
    needs_scores: ClassVar[bool] = False

    name: str = Field(description="mask strategy")
