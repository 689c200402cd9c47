"""Settings of the backbones: the `model` section of an experiment. No torch in here."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(gt=0)]
Radius = Annotated[float, Field(gt=0.0)]
Scales = tuple[Positive, Positive, Positive]


class Frozen(BaseModel):
    """Base of all settings: immutable, unknown keys and numbers that are not finite refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


DEFAULT = "point-mae"  # the backbone of a `model` section that names none


class BackboneConfig(Frozen):
    """What every other part of the program may know of a backbone's settings."""

    #: ways in which its classifier makes one feature of its tokens; the first is the default
    poolings: ClassVar[tuple[str, ...]]
    #: settings that no weight knows of: a model may be fine-tuned with others than it was
    #: pre-trained with (Point-MAE: 64 patches, then 128 for ScanObjectNN)
    regrouping: ClassVar[frozenset[str]] = frozenset()
    #: settings that pre-training and frozen features do not read
    fine_tuning: ClassVar[frozenset[str]] = frozenset()
    #: whether its decoder reads points out of features alone (sa3df's teacher-decoded term)
    decodes_features: ClassVar[bool] = False

    backbone: str = Field(description="name of the architecture")

    @property
    def num_tokens(self) -> int:
        """Patches a cloud at the scale where masking is decided."""
        raise NotImplementedError

    @property
    def least_points(self) -> int:
        """Points that a cloud needs for its patches."""
        raise NotImplementedError


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


class PointM2AEConfig(BackboneConfig):
    """Point-M2AE: three scales of patches, fine to coarse. Defaults are the published ones."""

    poolings: ClassVar = ("sum", "concat")
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
