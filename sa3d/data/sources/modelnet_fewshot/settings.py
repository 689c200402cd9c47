"""Settings of the `modelnet-fewshot` source. Nothing in here imports more than pydantic."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from sa3d.config.base import Frozen
from sa3d.data.raw import About


class ModelNetFewshotSource(Frozen):
    """Few-shot episodes on ModelNet40."""

    about: ClassVar = About(
        title="ModelNet40 few-shot",
        purpose="few-shot classification: 5 or 10 ways, 10 or 20 shots, 10 folds of each",
        licence="ModelNet's terms: for academic research; the CAD models belong to their authors.",
        homepage="https://modelnet.cs.princeton.edu",
        obtain=(
            "Get ModelNetFewshot from the data page of the Point-BERT or Point-MAE project; "
            "5way_10shot/0.pkl and its like belong into the folder. Generating episodes anew gives "
            "others: the published ones were drawn without a seed."
        ),
        size="40 pickles, about 1.6 GB",
    )

    source: Literal["modelnet-fewshot"] = Field(
        "modelnet-fewshot", description="this kind of source"
    )
    root: str = Field(
        "data/raw/ModelNetFewshot", description="folder with 5way_10shot/ to 10way_20shot/"
    )
