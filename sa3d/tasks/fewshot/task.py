"""What few-shot classification says of itself; it runs in :mod:`sa3d.tasks.fewshot.run`."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field

from sa3d.config.base import Positive, Seed
from sa3d.config.finetune import FineTuneConfig
from sa3d.metrics import names
from sa3d.tasks.base import Folds, Metric, Task

RESULT_NEUTRAL: Final = True


class FewshotConfig(FineTuneConfig):
    """Few-shot classification: a fold is an episode, and a run of its own."""

    way: int = Field(ge=2, description="classes of an episode")
    shot: Positive = Field(description="training clouds of each class")
    queries: Positive = Field(20, description="test clouds of each class")
    folds: Positive = Field(10, description="episodes")
    episodes: Literal["auto", "drawn", "published"] = Field(
        "auto",
        description="drawn: from the data set by `episode_seed`; published: those that the data "
        "set brings; auto: published where it brings any of this way and shot",
    )
    episode_seed: Seed = Field(0, description="of the draw; the seed of a run does not change it")


def _choice(protocol: dict[str, Any]) -> str:
    return f"last of {protocol['epochs']} epochs"


def _how(settings: FewshotConfig) -> str:
    text = (
        f"{settings.way} classes with {settings.shot} training and {settings.queries} test clouds "
        f"each, {settings.folds} episodes that are the same for all variants; chance is 1 of "
        f"{settings.way}; ± is the sample standard deviation over runs"
    )
    return text + ("; test also read after every epoch" if settings.test_every_epoch else "")


TASK = Task(
    run="sa3d.tasks.fewshot.run:run",
    requires="sa3d.tasks.fewshot.episode:check",
    title="Few-shot classification",
    help="Train a classifier on a few clouds of a few classes.",
    settings=FewshotConfig,
    # chance depends on `way`: this is no accuracy among all classes of the data set
    metric=Metric(names.TEST_ACC, "accuracy"),
    extras=(Metric(names.TEST_BEST, "best on test (selected on test; not an estimate)"),),
    trains="classifier",
    folds=Folds(lambda settings: settings.folds, independent=False),
    choice=_choice,
    how=_how,
    figures=("sa3d.report.fewshot:folds_chart",),
)
