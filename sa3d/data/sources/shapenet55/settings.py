"""Settings of the `shapenet55` source. Nothing in here imports more than pydantic."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from sa3d.config.base import Frozen
from sa3d.data.raw import About


class ShapeNet55Source(Frozen):
    """ShapeNet55-34 as Point-BERT published it."""

    about: ClassVar = About(
        title="ShapeNet55-34",
        purpose="pre-training",
        licence="ShapeNet's terms: non-commercial research and education, no redistribution.",
        homepage="https://shapenet.org",
        obtain=(
            "Accept ShapeNet's terms, then get ShapeNet55-34 from the data page of the Point-BERT "
            "or PoinTr project; unpack it so that ShapeNet-55/ and shapenet_pc/ lie in the folder."
        ),
        size="about 5 GB unpacked (52 470 files of 98 kB)",
    )

    source: Literal["shapenet55"] = Field("shapenet55", description="this kind of source")
    root: str = Field(
        "data/raw/ShapeNet55-34", description="folder with ShapeNet-55/ and shapenet_pc/"
    )
