"""Settings of the `procedural` source. Nothing in here imports more than pydantic."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from sa3d.config.endless import EndlessSource
from sa3d.data.raw import About

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class ProceduralSource(EndlessSource):
    """Random compositions of solids, made while a model is trained on them; needs no download.

    Every share is the probability that a cloud has the property, independent of all others.
    """

    about: ClassVar = About(
        title="Procedural shapes",
        purpose="pre-training on as many different clouds as one likes, without a data set",
        licence="Random compositions of solids generated from a seed by this project.",
        obtain="Nothing to get: the clouds are generated.",
    )

    source: Literal["procedural"] = Field(
        "procedural", description="generated while training; this kind of source"
    )
    primitives: int = Field(
        9,
        ge=1,
        le=9,
        description="most solids a cloud, without copies and cutters; from 1, equally often",
    )
    # how the solids become one surface: at most one of these
    union: Share = Field(0.25, description="share of clouds without what lies inside another solid")
    intersection: Share = Field(0.1, description="share in which the first two solids intersect")
    difference: Share = Field(0.3, description="share in which one to three solids are cut away")
    wireframe: Share = Field(0.05, description="share of clouds with points along edges only")
    # further properties
    repeats: Share = Field(0.3, description="share with copies: in a row, in a ring, mirrored")
    cut: Share = Field(0.1, description="share cut by a plane")
    partial_view: Share = Field(0.2, description="share of which one side only is seen")
    density: Share = Field(0.25, description="share of uneven density")
    dents: Share = Field(0.2, description="share with one to three dents or bulges")
    displacement: Share = Field(0.2, description="share displaced by smooth noise")
    deformation: Share = Field(0.15, description="share twisted, tapered or bent as a whole")
    noise: Share = Field(0.5, description="share with sensor noise")
    noise_sd: float = Field(
        0.02, ge=0.0, le=0.1, description="largest s.d. of the noise, in radii of the cloud"
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        total = self.union + self.intersection + self.difference + self.wireframe
        if total > 1.0 + 1e-9:
            raise ValueError(
                f"union={self.union}, intersection={self.intersection}, difference="
                f"{self.difference} and wireframe={self.wireframe} are {total:g} together; a cloud "
                "has one of them, so they may be at most 1"
            )
        return self
