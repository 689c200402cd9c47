"""Settings of the plain masked autoencoder. Nothing in here imports torch."""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from pydantic import Field

from sa3d.methods.settings import MethodConfig

RESULT_NEUTRAL: Final = True


class MAEConfig(MethodConfig):
    """Plain masked autoencoder: rebuild the points of masked patches."""

    title: ClassVar = "MAE"

    method: Literal["mae"] = Field("mae", description="this method")
