"""What all settings share: their base class and the types of common values."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]
Beta = Annotated[float, Field(ge=0.0, lt=1.0)]
# scikit-learn and numpy take seeds below 2**32
Seed = Annotated[int, Field(ge=0, lt=2**32)]
DEFAULT_SEEDS = (0,)
Precision = Literal["fp32", "bf16"]


class Frozen(BaseModel):
    """Base of all settings: immutable; unknown keys and numbers that are not finite are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots: ``{"a": {"b": 1}}`` gives ``{"a.b": 1}``."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return found
