"""Settings of the `kicad` source. Nothing in here imports more than pydantic."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from sa3d.config.base import Fraction, Frozen, Seed
from sa3d.data.raw import About


class KicadSource(Frozen):
    """CAD models of electronic components (KiCad's ``3dmodels``)."""

    about: ClassVar = About(
        title="KiCad 3-D models",
        purpose="pre-training and evaluation on CAD models of electronic components",
        licence=(
            "CAD models of electronic components by the KiCad project, CC-BY-SA 4.0 with KiCad's "
            "exception."
        ),
        homepage="https://www.kicad.org/libraries/",
        obtain=(
            "Run `apt-get download kicad-packages3d` in the folder; the package is read without "
            "unpacking."
        ),
        size="380 MB",
    )

    source: Literal["kicad"] = Field("kicad", description="KiCad's models; this kind of source")
    root: str = Field(
        "data/raw/kicad",
        description="folder with the kicad-packages3d .deb or *.3dshapes folders, or the .deb",
    )
    seed: Seed = Field(0, description="seed of surface sampling and of the family split")
    points: int = Field(8192, ge=64, description="points sampled on each surface, by area")
    min_shapes: int = Field(40, ge=2, description="classes with fewer shapes are left out")
    test_fraction: Fraction = Field(
        0.2, description="share of each class held out as test, whole families"
    )
