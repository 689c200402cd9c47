"""What all settings share: their base class and the types of common values."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

# counts become 32-bit and 64-bit integers of libraries
Positive = Annotated[int, Field(gt=0, lt=2**31)]
Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]
Beta = Annotated[float, Field(ge=0.0, lt=1.0)]
# scikit-learn and numpy take seeds below 2**32
Seed = Annotated[int, Field(ge=0, lt=2**32)]
DEFAULT_SEEDS = (0,)
Precision = Literal["fp32", "bf16"]


class Frozen(BaseModel):
    """Base of all settings: immutable; unknown keys and numbers that are not finite are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Python takes true for 1: 1 epoch of training where somebody meant something else."""
        found = value if isinstance(value, list | tuple) else (value,)
        if any(isinstance(each, bool) for each in found):
            assert info.field_name is not None
            kinds = _kinds(cls.model_fields[info.field_name].annotation)
            if kinds & {int, float} and bool not in kinds:
                raise PydanticCustomError("number", "a number is expected, not true or false")
        return value


def _kinds(annotation: Any) -> set[Any]:
    """The types that an annotation is made of: int and None of ``int | None``."""
    inner = get_args(annotation)
    return {annotation} if not inner else set().union(*(_kinds(each) for each in inner))


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots: ``{"a": {"b": 1}}`` gives ``{"a.b": 1}``."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return found
