"""What the linear SVM asks of a data set; known before anything is computed."""

from __future__ import annotations

from typing import Final

import numpy as np

from sa3d.data.store import TRAIN, CloudSet
from sa3d.errors import DataError
from sa3d.runs.config import RunConfig
from sa3d.tasks.svm.task import SvmConfig

RESULT_NEUTRAL: Final = True


def check(config: RunConfig, clouds: CloudSet) -> None:
    """That there are classes to tell apart, and clouds of each for every fold.

    Raises:
        DataError: there are not.
    """
    settings = config.settings
    assert isinstance(settings, SvmConfig)
    train = clouds.indices(TRAIN)
    counts = np.unique(clouds.labels[train], return_counts=True)[1]
    if len(counts) < 2:
        raise DataError(
            f"{clouds.path}: an SVM tells classes apart, but all training clouds are of one class; "
            "evaluate on a data set with several"
        )
    smallest, families = int(counts.min()), len(np.unique(clouds.family[train]))
    if min(smallest, families) < settings.folds:
        raise DataError(
            f"{clouds.path}: folds={settings.folds}, but the smallest class has {smallest} "
            f"training clouds and there are {families} families; set the SVM's folds lower"
        )
