"""Settings of data sets that are made while a model is trained, and what identifies them."""

from __future__ import annotations

import hashlib
import importlib
from typing import Any

from pydantic import Field

from sa3d import registry
from sa3d.config.base import Frozen, Positive, Seed


class EndlessSource(Frozen):
    """What the settings of every endless data set have; see :mod:`sa3d.data.endless`."""

    source: str = Field(description="kind of source")
    seed: Seed = Field(0, description="seed of every cloud")
    clouds_per_epoch: Positive = Field(
        51_200, description="clouds that count as one epoch; no two epochs have one in common"
    )
    held_out: int = Field(
        256, ge=8, le=100_000, description="clouds of a stream of their own, which no run draws"
    )
    points: int = Field(1024, ge=64, le=65_536, description="points a cloud is made with")


def digest_of(source: EndlessSource) -> str:
    """64 hex digits that are the same only for the same clouds: of the settings and the version
    of the generator. Which of the endless clouds a run draws is the run's to say."""
    version = module_of(source).GENERATOR_VERSION
    text = f"endless {version} {source.model_dump_json()}"
    return hashlib.sha256(text.encode()).hexdigest()


def module_of(source: EndlessSource) -> Any:
    """The module that makes the clouds, imported now."""
    kind = registry.require(registry.SOURCES, "data source", source.source)
    return importlib.import_module(registry.SOURCES[kind].where.partition(":")[0])
