"""Settings of optimiser and schedule, shared by pre-training and everything that is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from sa3d import registry
from sa3d.config.base import Beta, Frozen, Positive, Precision

_KNOWN = registry.known(registry.AUGMENTATIONS, "augmentation")
Augmentation = Annotated[str, AfterValidator(_KNOWN)]


class OptimConfig(Frozen):
    """Optimiser and schedule of one training."""

    epochs: Positive = Field(description="passes over the training split")
    batch_size: int = Field(ge=2, description="clouds a step, a process; BatchNorm needs two")
    accumulate: Positive = Field(1, description="batches summed into one optimiser step")
    lr: float = Field(gt=0.0, description="peak learning rate of AdamW")
    min_lr: float = Field(0.0, ge=0.0, description="learning rate at the end of the cosine")
    warmup_epochs: float = Field(0.0, ge=0.0, description="epochs of linear warm-up")
    cosine_epochs: int | None = Field(
        None, gt=0, description="epoch at which the cosine reaches `min_lr`; null: the last one"
    )
    schedule: Literal["iteration", "epoch"] = Field(
        "iteration",
        description="iteration: the rate changes every step and the warm-up rises from 0 (GM3D); "
        "epoch: once an epoch and one epoch late, the warm-up rises from `min_lr` (the runners "
        "of Point-MAE and Point-M2AE)",
    )
    betas: tuple[Beta, Beta] = Field((0.9, 0.999), description="AdamW's betas")
    weight_decay: float = Field(0.05, ge=0.0, description="none on 1-D parameters and tokens")
    clip: float | None = Field(None, gt=0.0, description="largest global gradient norm")
    precision: Precision = Field("fp32", description="bf16: autocast; losses stay fp32")
    augment: Augmentation = Field(
        "scale_translate",
        description="transform of training clouds: none, scale_translate, "
        "scale_translate_small, rotate_y",
    )

    @model_validator(mode="after")
    def _schedule_fits(self) -> OptimConfig:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs={self.warmup_epochs} leaves nothing of epochs={self.epochs}"
            )
        late = self.schedule == "epoch"  # its last epoch has the rate of the one before
        least = self.epochs - late
        if self.cosine_epochs is not None and self.cosine_epochs < least:
            raise ValueError(
                f"cosine_epochs={self.cosine_epochs} ends before epochs={self.epochs}; "
                f"give {least} or more"
            )
        return self
