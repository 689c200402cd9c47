"""Settings of the `shapenetpart` source. Nothing in here imports more than pydantic."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from sa3d.config.base import Frozen
from sa3d.data.raw import About, Download

FOLDER = "shapenetcore_partanno_segmentation_benchmark_v0_normal"


class ShapeNetPartSource(Frozen):
    """ShapeNetPart with normals."""

    about: ClassVar = About(
        title="ShapeNetPart",
        purpose="part segmentation",
        licence="ShapeNet's terms: non-commercial research and education, no redistribution.",
        homepage="https://shapenet.org",
        obtain=(
            "Stanford's server is often down; look for the archive by its name then. "
            f"Unpack {FOLDER}.zip so that synsetoffset2category.txt, train_test_split/ and the "
            "category folders lie in the folder."
        ),
        size="about 0.7 GB packed (16 846 text files are named by its lists)",
        downloads=(Download(f"https://shapenet.cs.stanford.edu/media/{FOLDER}.zip", unpack=True),),
    )

    source: Literal["shapenetpart"] = Field("shapenetpart", description="this kind of source")
    root: str = Field(
        f"data/raw/{FOLDER}",
        description="folder with synsetoffset2category.txt, train_test_split/, category folders",
    )
