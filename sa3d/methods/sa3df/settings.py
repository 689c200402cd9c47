"""Settings of SA3DF. Nothing in here imports torch."""

from __future__ import annotations

from typing import ClassVar, Final, Literal, Self

from pydantic import Field

from sa3d.config.base import Positive
from sa3d.methods.curves import Curve
from sa3d.methods.sa3d.settings import SA3DConfig
from sa3d.metrics import names as keys
from sa3d.models.settings import BackboneConfig

RESULT_NEUTRAL: Final = True

FEATURES: Final = Curve(
    "feature_loss",
    keys.FEATURE,
    "Feature loss",
    "Squared distance between the student's decoder features and the knowledge teacher's at "
    "masked patches, both normalised; before weighting.",
    log=True,
)

PointTerm = Literal["teacher_decoded_nograd", "teacher_decoded_grad", "ground_truth_grad"]


class SA3DFConfig(SA3DConfig):
    """SA3DF: SA3D, and the features of a frozen knowledge teacher."""

    title: ClassVar = "SA3DF"
    has_teacher: ClassVar = True

    method: Literal["sa3df"] = Field("sa3df", description="this method")  # type: ignore[assignment]
    teacher: str = Field(description="the variant whose model is the frozen knowledge teacher")
    gc_depth: Positive = Field(12, description="blocks of the GC predictor")
    feature_weight: float = Field(13.889, ge=0.0, description="from `switch_epoch` on; 1 before")
    point_term: PointTerm | None = Field(
        None,
        description="null: teacher_decoded_nograd on a backbone that can decode features alone, "
        "else ground_truth_grad",
    )

    @property
    def curves(self) -> tuple[Curve, ...]:
        """See the base class: those of SA3D, and the loss of features."""
        return (*super().curves, FEATURES)

    def resolved(self, model: BackboneConfig) -> Self:
        """See the base class: `point_term` depends on the backbone."""
        super().resolved(model)
        term = self.point_term
        if term is None:
            term = "teacher_decoded_nograd" if model.decodes_features else "ground_truth_grad"
        elif term != "ground_truth_grad" and not model.decodes_features:
            raise ValueError(
                f"point_term={term} needs a decoder that reads features alone, which "
                f"model.backbone={model.backbone} has not; use ground_truth_grad"
            )
        return self.model_copy(update={"point_term": term})
