"""What part segmentation says of itself; it runs in :mod:`sa3d.tasks.segment.run`."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field

from sa3d.config.optim import Augmentation, OptimConfig
from sa3d.metrics import names
from sa3d.tasks.base import Metric, Task, TaskConfig

RESULT_NEUTRAL: Final = True


class SegmentConfig(TaskConfig, OptimConfig):
    """Part segmentation, fine-tuned or from scratch."""

    augment: Augmentation = Field(
        "scale_translate_small", description="transform of training clouds, as in pre-training"
    )
    layer_decay: float = Field(
        1.0, gt=0.0, le=1.0, description="lr factor from one block to the one below it"
    )
    dropout: float = Field(0.5, ge=0.0, lt=1.0, description="in the segmentation head")
    select: Literal["validation", "last"] = Field(
        "validation",
        description="validation: the epoch with the best instance mIoU on validation clouds; "
        "last: the last epoch, and validation clouds train too (the published runners)",
    )
    test_every_epoch: bool = Field(
        False, description="also read test each epoch, for the labelled `best-on-test` extra"
    )


def _choice(protocol: dict[str, Any]) -> str:
    return f"epoch {protocol['selected_epoch']} of {protocol['epochs']}"


def _how(settings: SegmentConfig) -> str:
    text = "the last epoch's weights; validation clouds are trained on"
    if settings.select == "validation":
        text = "epoch chosen on the validation split"
    if settings.test_every_epoch:
        text += "; test also read after every epoch"
    return text


TASK = Task(
    run="sa3d.tasks.segment.run:run",
    requires="sa3d.tasks.segment.requires:check",
    title="Part segmentation",
    help="Fine-tune for part segmentation, or train it from scratch.",
    settings=SegmentConfig,
    metric=Metric(names.TEST_MIOU, "instance mIoU"),
    extras=(
        Metric(names.TEST_MIOU_CATEGORY, "category mIoU"),
        Metric(names.TEST_POINT_ACC, "points right"),
        Metric(names.TEST_MIOU_LAST, "last epoch"),
        Metric(names.TEST_MIOU_CATEGORY_LAST, "category mIoU, last epoch"),
        Metric(names.TEST_MIOU_BEST, "best on test (selected on test; not an estimate)"),
        Metric(names.TEST_MIOU_CATEGORY_BEST, "category mIoU of that epoch"),
    ),
    trains="segmenter",
    selects=True,
    processes=True,
    choice=_choice,
    how=_how,
    figures=(
        "sa3d.report.segmentation:validation_curves",
        "sa3d.report.segmentation:per_category_chart",
        "sa3d.report.segmentation:pictures",
    ),
)
