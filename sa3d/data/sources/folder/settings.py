"""Settings of the `folder` source. Nothing in here imports more than pydantic."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from sa3d import registry
from sa3d.config.base import Fraction, Frozen, Seed
from sa3d.data.families import How
from sa3d.data.raw import About

Format = Annotated[str, AfterValidator(registry.known(registry.READERS, "format"))]


class FolderSource(Frozen):
    """A folder of meshes or point clouds of one's own."""

    about: ClassVar[About] = About(
        title="a folder of one's own",
        purpose="pre-training, and every task that its labels serve",
        licence="that of its owner",
        obtain="`sa3d data add DIR --name NAME`; docs/own_data.md says how the folder may look.",
    )

    source: Literal["folder"] = Field("folder", description="a folder of files; this source")
    root: str = Field(description="the folder; relative to the project's root, or absolute")
    seed: Seed = Field(0, description="seed of surface sampling and of the split")
    points: int = Field(
        8192,
        ge=64,
        description="points sampled on each surface; a larger cloud keeps this many farthest ones",
    )
    test_fraction: Fraction = Field(
        0.2, description="share of each class held out as test, where the folder has no split"
    )
    normalisation: Literal["subsample", "cloud", "none"] = Field(
        "subsample",
        description="what a model sees: points chosen, then scaled to the unit sphere; scaled, "
        "then chosen; or as in the files",
    )
    up: Literal["x", "y", "z"] = Field("y", description="the axis that points up in the files")
    formats: tuple[Format, ...] = Field(
        (), description="suffixes without the dot that are read; none named: all known ones"
    )
    parts: bool = Field(
        True, description="per-point labels are part labels, where every file has them"
    )
    families: How = Field(
        "auto",
        description="what stays on one side of a split that is made: files whose names differ in "
        "numbers alone; single files; or the first where names show families",
    )
    merge_copies: bool = Field(
        True,
        description="files of the same geometry count once, where the folder has no split; false: "
        "they all stay",
    )
