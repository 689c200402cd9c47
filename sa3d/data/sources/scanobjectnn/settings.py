"""Settings of the `scanobjectnn` source. Nothing in here imports more than pydantic."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from sa3d.config.base import Frozen
from sa3d.data.raw import About


class ScanObjectNNSource(Frozen):
    """One variant of ScanObjectNN."""

    about: ClassVar = About(
        title="ScanObjectNN",
        purpose="fine-tuning and linear SVM on scanned objects",
        licence="ScanObjectNN's terms of use, which its page asks you to accept.",
        homepage="https://hkust-vgd.github.io/scanobjectnn/",
        obtain=(
            "Agree to the terms on the project's page to get h5_files.zip; unpack it so that "
            "main_split/ and main_split_nobg/ lie in the folder."
        ),
        size="a few hundred MB for the six files that are read",
    )

    source: Literal["scanobjectnn"] = Field("scanobjectnn", description="this kind of source")
    root: str = Field(
        "data/raw/ScanObjectNN", description="folder with main_split/ and main_split_nobg/"
    )
    variant: Literal["obj-bg", "obj-only", "pb-t50-rs"] = Field(
        "pb-t50-rs",
        description="obj-bg: objects with background; obj-only: without; pb-t50-rs: moved, turned "
        "and scaled cut-outs, the hardest",
    )
