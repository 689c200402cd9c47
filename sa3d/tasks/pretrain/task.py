"""What pre-training says of itself; the computing is in :mod:`sa3d.tasks.pretrain.run`."""

from __future__ import annotations

from typing import Final

from sa3d.methods.settings import MethodConfig
from sa3d.metrics import names
from sa3d.tasks.base import Metric, Task

RESULT_NEUTRAL: Final = True

TASK = Task(
    run="sa3d.tasks.pretrain.run:run",
    title="Pre-training",
    help="Pre-train without labels.",
    settings=MethodConfig,
    metric=Metric(names.LOSS, "loss", share=False, higher_is_better=False),
    processes=True,
)
