"""Settings of the `modelnet40-hdf5` source. Nothing in here imports more than pydantic."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from sa3d.config.base import Frozen
from sa3d.data.raw import About, Download


class ModelNet40Hdf5Source(Frozen):
    """ModelNet40 in HDF5 files."""

    about: ClassVar = About(
        title="ModelNet40 (HDF5, 2048 points)",
        purpose="linear SVM of Point-M2AE",
        licence="ModelNet's terms: for academic research; the CAD models belong to their authors.",
        homepage="https://modelnet.cs.princeton.edu",
        obtain=(
            "Stanford's server is often down; look for the archive by its name then. "
            "Unpack modelnet40_ply_hdf5_2048.zip so that ply_data_train0.h5 to train4.h5, "
            "test0.h5 and test1.h5 lie in the folder."
        ),
        size="about 0.4 GB",
        downloads=(
            Download(
                "https://shapenet.cs.stanford.edu/media/modelnet40_ply_hdf5_2048.zip", unpack=True
            ),
        ),
    )

    source: Literal["modelnet40-hdf5"] = Field("modelnet40-hdf5", description="this kind of source")
    root: str = Field("data/raw/modelnet40_ply_hdf5_2048", description="folder with ply_data_*.h5")
