"""What the linear SVM says of itself; the computing is in :mod:`sa3d.tasks.svm.run`."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from sa3d.config.base import Positive, Precision
from sa3d.metrics import names
from sa3d.tasks.base import Metric, Task, TaskConfig

RESULT_NEUTRAL: Final = True


class SvmConfig(TaskConfig):
    """Linear SVM on frozen features. Test is read once, with C chosen on the training split."""

    official_c: float = Field(0.01, gt=0.0, description="the published C, reported alongside")
    c_grid: tuple[Annotated[float, Field(gt=0.0)], ...] = Field(
        (0.001, 0.01, 0.1, 1.0),
        min_length=1,
        description="cross-validation chooses C among these, and beyond them by powers of ten "
        "from 1e-6 to 1e4 while an edge is best",
    )
    folds: int = Field(3, ge=2, description="folds of that cross-validation")
    batch_size: Positive = Field(64, description="clouds a forward pass")
    precision: Literal["auto"] | Precision = Field(
        "auto",
        description="of the encoder; auto: bf16 where the device computes in it, else fp32",
    )


def _choice(protocol: dict[str, Any]) -> str:
    scaling = "standardised features" if protocol["standardised"] else "features as they are"
    at_bound = " (a bound of the search)" if protocol["c_at_bound"] else ""
    stopped = "" if protocol["converged"] else ", not converged"
    return f"C = {protocol['c']:g}{at_bound}, {scaling}{stopped}"


def _how(settings: SvmConfig) -> str:
    return (
        f"C, and whether features are standardised, chosen by {settings.folds}-fold "
        "cross-validation on the training split"
    )


TASK = Task(
    run="sa3d.tasks.svm.run:run",
    requires="sa3d.tasks.svm.requires:check",
    title="Linear SVM on frozen features",
    help="Linear SVM on frozen features.",
    settings=SvmConfig,
    metric=Metric(names.TEST_ACC, "accuracy", accuracy=True),
    extras=(
        Metric(names.TEST_OFFICIAL_C, "with the published C, features as they are"),
        Metric(names.MEAN_CLASS_ACC, "mean over classes"),
    ),
    choice=_choice,
    how=_how,
    untrained="an untrained encoder",
)
