"""Settings of Point-MAE: the `model` section of an experiment. No torch in here."""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from pydantic import Field, model_validator

from sa3d.config.base import Positive
from sa3d.models.settings import BackboneConfig

RESULT_NEUTRAL: Final = True


class PointMAEConfig(BackboneConfig):
    """Point-MAE: one scale of patches, a plain transformer. Defaults are the published ones."""

    poolings: ClassVar = ("cls_max",)
    regrouping: ClassVar = frozenset({"groups", "group_size"})
    decodes_features: ClassVar = True

    backbone: Literal["point-mae"] = Field("point-mae", description="this architecture")
    groups: Positive = Field(64, description="patches G a cloud")
    group_size: Positive = Field(32, description="points K a patch")
    embed_width: Positive = Field(
        128, description="first width W of the patch embedding: W, 2W, 4W, then C"
    )
    dim: Positive = Field(384, description="token width C")
    depth: Positive = Field(12, description="encoder blocks")
    heads: Positive = Field(6, description="attention heads")
    decoder_depth: Positive = Field(4, description="decoder blocks")
    drop_path: float = Field(0.1, ge=0.0, lt=1.0, description="largest stochastic-depth rate")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> PointMAEConfig:
        if self.dim % self.heads:
            raise ValueError(f"dim={self.dim} is not a multiple of heads={self.heads}")
        return self

    @property
    def num_tokens(self) -> int:
        """Patches a cloud."""
        return self.groups

    @property
    def least_points(self) -> int:
        """See the base class."""
        return max(self.groups, self.group_size)
