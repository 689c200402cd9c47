"""What part segmentation asks of a data set; known before anything is computed."""

from __future__ import annotations

from typing import Final

from sa3d.data.split import train_val_test
from sa3d.data.store import CloudSet
from sa3d.runs.config import RunConfig
from sa3d.tasks.segment.task import SegmentConfig

RESULT_NEUTRAL: Final = True


def check(config: RunConfig, clouds: CloudSet) -> None:
    """That points have part labels, and that there are families to keep for validation.

    Raises:
        DataError: there are not.
    """
    settings = config.settings
    assert isinstance(settings, SegmentConfig)
    clouds.parts(0)  # refuses a data set without part labels
    if settings.select != "last":
        train_val_test(clouds, config.data.val_fraction, config.spec.seed)
