"""Settings of the `shapes` source. Nothing in here imports more than pydantic."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from sa3d.config.base import Fraction, Frozen, Seed
from sa3d.data.raw import About


class ShapesSource(Frozen):
    """Parametric objects generated from a seed; needs no download."""

    about: ClassVar = About(
        title="Generated shapes",
        purpose="trying everything out without a download",
        licence="Parametric objects generated from a seed by this project.",
        obtain="Nothing to get: the objects are generated.",
    )

    source: Literal["shapes"] = Field("shapes", description="generated; this kind of source")
    seed: Seed = Field(0, description="seed of every random proportion, yaw and noise")
    shapes_per_class: int = Field(120, ge=5, description="clouds of each category")
    points: int = Field(2048, ge=64, description="points a cloud")
    noise: float = Field(0.01, ge=0.0, le=0.1, description="s.d. of sensor noise, in radii")
    test_fraction: Fraction = Field(0.2, description="share of each class held out as test")
