"""Which data set a run reads, and how much of each cloud."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, SerializeAsAny

from sa3d import registry
from sa3d.config.base import Fraction, Frozen, Positive
from sa3d.config.endless import EndlessSource
from sa3d.config.union import by_name


def _endless(value: object) -> object:
    return by_name(value, registry.SOURCES, "data source", key="source")


class DataConfig(Frozen):
    """The data set of a run."""

    name: str = Field(description="key under `datasets` in params.yaml")
    points: Positive = Field(1024, description="points N drawn from each stored cloud")
    val_fraction: Fraction = Field(
        0.1,
        description="share of the training split carved out for selection, where the data set "
        "has no validation split of its own",
    )
    endless: Annotated[SerializeAsAny[EndlessSource] | None, BeforeValidator(_endless)] = Field(
        None,
        description="settings of a data set that is made while a model is trained on it; taken "
        "from `datasets`",
    )
