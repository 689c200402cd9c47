"""Settings of the `modelnet40` source. Nothing in here imports more than pydantic."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from sa3d.config.base import Frozen
from sa3d.data.raw import About, Download


class ModelNet40Source(Frozen):
    """ModelNet40 or ModelNet10, resampled with normals."""

    about: ClassVar = About(
        title="ModelNet40 or ModelNet10 (resampled, with normals)",
        purpose="linear SVM, fine-tuning, voting",
        licence="ModelNet's terms: for academic research; the CAD models belong to their authors.",
        homepage="https://modelnet.cs.princeton.edu",
        obtain=(
            "Stanford's server is often down; look for the archive by its name then. "
            "Unpack modelnet40_normal_resampled.zip so that modelnet40_train.txt and the class "
            "folders lie in the folder; ModelNet10 is in the same archive."
        ),
        size="1.7 GB packed, 7 GB unpacked (12 311 text files)",
        downloads=(
            Download(
                "https://shapenet.cs.stanford.edu/media/modelnet40_normal_resampled.zip",
                unpack=True,
            ),
        ),
    )

    source: Literal["modelnet40"] = Field("modelnet40", description="this kind of source")
    root: str = Field(
        "data/raw/modelnet40_normal_resampled",
        description="folder with the lists and the class folders, or the .dat files",
    )
    variant: Literal[40, 10] = Field(40, description="ModelNet40, or its subset ModelNet10")
    form: Literal["text", "dat"] = Field(
        "text",
        description="text: a file of 10 000 points a cloud; dat: the pickles "
        "modelnet40_{train,test}_8192pts_fps.dat, their points already chosen",
    )
    points: int | None = Field(
        8192,
        ge=64,
        description="farthest points kept of a cloud, from its first one on; null: all of them",
    )
