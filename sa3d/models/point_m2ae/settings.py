"""Settings of Point-M2AE: the `model` section of an experiment. No torch in here."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field, model_validator

from sa3d.config.base import Positive
from sa3d.models.settings import BackboneConfig

RESULT_NEUTRAL: Final = True

Radius = Annotated[float, Field(gt=0.0)]
Scales = tuple[Positive, Positive, Positive]


class PointM2AEConfig(BackboneConfig):
    """Point-M2AE: three scales of patches, fine to coarse. Defaults are the published ones."""

    poolings: ClassVar = ("sum", "concat", "concat_skip_first")
    regrouping: ClassVar = frozenset({"groups", "group_sizes"})
    fine_tuning: ClassVar = frozenset({"radii"})

    backbone: Literal["point-m2ae"] = Field("point-m2ae", description="this architecture")
    groups: Scales = Field((512, 256, 64), description="patches of each scale, fine to coarse")
    group_sizes: Scales = Field(
        (16, 8, 8), description="points of a finest patch, patches of the scale below in the others"
    )
    dims: Scales = Field((96, 192, 384), description="token width of each scale")
    depths: Scales = Field((5, 5, 5), description="encoder blocks of each scale")
    heads: Positive = Field(6, description="attention heads of every scale")
    radii: tuple[Radius, Radius, Radius] = Field(
        (0.32, 0.64, 1.28),
        description="downstream models that are trained attend within this distance, by scale",
    )
    embed_width: Positive = Field(
        128, description="first width W of the finest embedding: W, 2W, 4W, then its dim"
    )
    decoder_depth: Positive = Field(1, description="blocks of each of the two decoder stages")
    drop_path: float = Field(0.1, ge=0.0, lt=1.0, description="largest stochastic-depth rate")

    @model_validator(mode="after")
    def _scales_fit(self) -> PointM2AEConfig:
        for dim in self.dims:
            if dim % self.heads:
                raise ValueError(f"dims={list(self.dims)}: {dim} is no multiple of {self.heads}")
        for finer, coarser, size in zip(
            self.groups, self.groups[1:], self.group_sizes[1:], strict=False
        ):
            if not max(coarser, size) <= finer:
                raise ValueError(
                    f"groups={list(self.groups)}, group_sizes={list(self.group_sizes)}: a scale of "
                    f"{finer} patches cannot give {coarser} patches of {size}"
                )
        return self

    @property
    def num_tokens(self) -> int:
        """Patches of the coarsest scale."""
        return self.groups[-1]

    @property
    def least_points(self) -> int:
        """See the base class."""
        return max(self.groups[0], self.group_sizes[0])
