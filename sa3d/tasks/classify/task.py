"""What fine-tuned classification says of itself; it runs in :mod:`sa3d.tasks.classify.run`."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field

from sa3d.config.finetune import FineTuneConfig
from sa3d.metrics import names
from sa3d.tasks.base import Metric, Task

RESULT_NEUTRAL: Final = True


class ClassifyConfig(FineTuneConfig):
    """Fine-tuned classification (or from scratch)."""

    votes: int = Field(
        0,
        ge=0,
        description="passes of the published test-time voting with the weights that validation "
        "chose (published: 299); 0: no voting",
    )


def _choice(protocol: dict[str, Any]) -> str:
    return f"epoch {protocol['selected_epoch']} of {protocol['epochs']}"


def _how(settings: ClassifyConfig) -> str:
    text = "epoch chosen on the validation split"
    if settings.test_every_epoch:
        text += "; test also read after every epoch"
    if settings.votes:
        text += f"; test also read by {settings.votes} voting passes"
    return text


TASK = Task(
    run="sa3d.tasks.classify.run:run",
    requires="sa3d.tasks.classify.requires:check",
    title="Fine-tuned classifier",
    help="Fine-tune for classification, or train it from scratch.",
    settings=ClassifyConfig,
    metric=Metric(names.TEST_ACC, "accuracy", accuracy=True),
    extras=(
        Metric(names.TEST_LAST, "last epoch"),
        Metric(names.MEAN_CLASS_ACC, "mean over classes"),
        Metric(names.TEST_BEST, "best on test (selected on test; not an estimate)"),
        Metric(names.VOTE_MEAN, "voting, mean over passes"),
        Metric(names.VOTE_SD, "voting, standard deviation over passes"),
        Metric(names.VOTE_MAX, "voting, best pass (selected on test; not an estimate)"),
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
