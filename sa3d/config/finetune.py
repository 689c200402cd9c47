"""Settings of every task that trains a classifier on a pre-trained encoder."""

from __future__ import annotations

from typing import Self

from pydantic import Field

from sa3d.config.optim import OptimConfig
from sa3d.models.settings import BackboneConfig
from sa3d.tasks.base import TaskConfig


class FineTuneConfig(TaskConfig, OptimConfig):
    """A classifier, its loss and its optimiser."""

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
