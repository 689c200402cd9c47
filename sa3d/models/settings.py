"""What every other part of the program may know of a backbone's settings. No torch in here."""

from __future__ import annotations

from typing import ClassVar, Final

from pydantic import Field

from sa3d.config.base import Frozen

RESULT_NEUTRAL: Final = True

DEFAULT = "point-mae"  # the backbone of a `model` section that names none


class BackboneConfig(Frozen):
    """What every other part of the program may know of a backbone's settings."""

    #: ways in which its classifier makes one feature of its tokens; the first is the default
    poolings: ClassVar[tuple[str, ...]]
    #: settings that no weight knows of: a model may be fine-tuned with others than it was
    #: pre-trained with (Point-MAE: 64 patches, then 128 for ScanObjectNN)
    regrouping: ClassVar[frozenset[str]] = frozenset()
    #: settings that pre-training and frozen features do not read
    fine_tuning: ClassVar[frozenset[str]] = frozenset()
    #: whether its decoder reads points out of features alone (sa3df's teacher-decoded term)
    decodes_features: ClassVar[bool] = False

    backbone: str = Field(description="name of the architecture")

    @property
    def num_tokens(self) -> int:
        """Patches a cloud at the scale where masking is decided."""
        raise NotImplementedError

    @property
    def least_points(self) -> int:
        """Points that a cloud needs for its patches."""
        raise NotImplementedError
