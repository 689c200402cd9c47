"""What fine-tuned classification says of itself; it runs in :mod:`sa3d.tasks.classify.run`."""

from __future__ import annotations

from typing import Any, Final, Self

from pydantic import Field

from sa3d.config.optim import OptimConfig
from sa3d.metrics import names
from sa3d.models.settings import BackboneConfig
from sa3d.tasks.base import Metric, Task, TaskConfig

RESULT_NEUTRAL: Final = True


class ClassifyConfig(TaskConfig, OptimConfig):
    """Fine-tuned classification (or from scratch)."""

    layer_decay: float = Field(
        1.0, gt=0.0, le=1.0, description="lr factor from one block to the one below it"
    )
    label_smoothing: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="share of each label taken from the true class and spread evenly over the "
        "others",
    )
    dropout: float = Field(0.5, ge=0.0, lt=1.0, description="in the classification head")
    pooling: str | None = Field(
        None,
        description="tokens to one feature: one of the backbone's `poolings`; null: its first",
    )
    test_every_epoch: bool = Field(
        False, description="also read test each epoch, for the labelled `best-on-test` extra"
    )

    def resolved(self, model: BackboneConfig) -> Self:
        """See the base class: `pooling` depends on the backbone."""
        if self.pooling not in (None, *model.poolings):
            raise ValueError(
                f"pooling={self.pooling}: model.backbone={model.backbone} pools by "
                f"{', '.join(model.poolings)}"
            )
        return self.model_copy(update={"pooling": self.pooling or model.poolings[0]})


def _choice(protocol: dict[str, Any]) -> str:
    return f"epoch {protocol['selected_epoch']} of {protocol['epochs']}"


def _how(settings: ClassifyConfig) -> str:
    if settings.test_every_epoch:
        return "epoch chosen on the validation split; test also read after every epoch"
    return "epoch chosen on the validation split"


TASK = Task(
    run="sa3d.tasks.classify.run:run",
    title="Fine-tuned classifier",
    help="Fine-tune for classification, or train it from scratch.",
    settings=ClassifyConfig,
    metric=Metric(names.TEST_ACC, "accuracy", accuracy=True),
    extras=(
        Metric(names.TEST_LAST, "last epoch"),
        Metric(names.MEAN_CLASS_ACC, "mean over classes"),
        Metric(names.TEST_BEST, "best on test (selected on test; not an estimate)"),
    ),
    trains="classifier",
    selects=True,
    processes=True,
    choice=_choice,
    how=_how,
    figures=(
        "sa3d.report.classification:validation_curves",
        "sa3d.report.classification:confusion_chart",
        "sa3d.report.classification:per_class_chart",
    ),
)
