"""Settings of SA3D. Nothing in here imports torch."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar, Final, Literal

from pydantic import Field

from sa3d.config.base import Frozen, Positive
from sa3d.methods.curves import Curve, Reference
from sa3d.methods.settings import MethodConfig
from sa3d.metrics import names as keys

RESULT_NEUTRAL: Final = True

RANKING: Final = Curve(
    "ranking_loss",
    keys.GC,
    "Ranking loss of geometric complexity",
    "How well the student ranks masked patches by how badly they are rebuilt.",
)
GUESSING: Final = Reference(
    "ln 2: guessing", math.log(2), "Guessing gives ln 2 = 0.693; lower is better."
)
CURRICULUM: Final = Curve(
    "curriculum",
    keys.HARD,
    "Curriculum",
    "Masked patches of a cloud that are chosen for being predicted hardest; the rest of the "
    "mask is drawn at random.",
    steps=True,
)


class EmaConfig(Frozen):
    """Decay of the EMA teacher: linear from `start` to `end` over `ramp_epochs`."""

    start: float = Field(0.999, ge=0.0, lt=1.0, description="decay of the first step")
    end: float = Field(0.9999, ge=0.0, lt=1.0, description="decay after the ramp")
    ramp_epochs: Positive = Field(100, description="epochs from `start` to `end`")


class SA3DConfig(MethodConfig):
    """SA3D: a teacher predicts the complexity of every patch; the hardest are masked."""

    title: ClassVar = "SA3D"
    has_scores: ClassVar = True
    floors_visible: ClassVar = True

    method: Literal["sa3d"] = Field("sa3d", description="this method")
    gc_depth: Positive = Field(4, description="blocks of the GC predictor")
    gc_loss: Literal["relative", "absolute"] = Field("relative", description="ranking or MSE")
    shared_mask_token: bool = Field(
        False, description="the GC predictor uses the decoder's mask token"
    )
    point_weight: float = Field(1000.0, ge=0.0, description="from `switch_epoch` on; 1 before")
    gc_weight: float = Field(1.0, ge=0.0, description="weight of the GC loss")
    switch_epoch: int = Field(15, ge=0, description="first 0-based epoch with the full weights")
    ema: EmaConfig = Field(EmaConfig(), description="the teacher that scores patches")

    @property
    def curves(self) -> tuple[Curve, ...]:
        """See the base class: the GC predictor's loss and the curriculum."""
        guessing = GUESSING if self.gc_loss == "relative" else None
        return (replace(RANKING, reference=guessing), CURRICULUM)
