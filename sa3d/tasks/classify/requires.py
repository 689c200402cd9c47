"""What fine-tuned classification asks of a data set; known before anything is computed."""

from __future__ import annotations

from typing import Final

from sa3d.data.split import train_val_test
from sa3d.data.store import CloudSet
from sa3d.errors import DataError
from sa3d.runs.config import RunConfig

RESULT_NEUTRAL: Final = True


def check(config: RunConfig, clouds: CloudSet) -> None:
    """That there are classes to tell apart, and families to keep for validation.

    Raises:
        DataError: there are not.
    """
    if clouds.num_classes < 2:
        raise DataError(
            f"{clouds.path} has one class: there is nothing to tell apart; evaluate on a data set "
            "with several"
        )
    train_val_test(clouds, config.data.val_fraction, config.spec.seed)
