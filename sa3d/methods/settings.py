"""What the settings of every pre-training method share. Nothing in here imports torch."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from sa3d import registry
from sa3d.config.optim import OptimConfig
from sa3d.config.union import by_name
from sa3d.masking.settings import MaskConfig
from sa3d.methods.curves import Curve
from sa3d.models.settings import BackboneConfig

RESULT_NEUTRAL: Final = True


def _mask(value: object) -> object:
    """`mask: random` is short for `mask: {name: random}`."""
    if isinstance(value, str):
        value = {"name": value}
    return by_name(value, registry.MASKS, "mask strategy", key="name")


Mask = Annotated[SerializeAsAny[MaskConfig], BeforeValidator(_mask)]


class MethodConfig(OptimConfig):
    """Self-supervised pre-training: optimiser, schedule and mask."""

    #: whether it distils a knowledge teacher; its settings then have the field `teacher`
    has_teacher: ClassVar[bool] = False
    #: whether it predicts scores that a mask strategy may read
    has_scores: ClassVar[bool] = False
    #: whether a ratio is turned into a count by flooring the visible patches (SA3D's code)
    #: instead of the masked ones (Point-MAE's code)
    floors_visible: ClassVar[bool] = False
    #: how reports call it
    title: ClassVar[str] = ""

    method: str = Field(description="pre-training method: mae, sa3d, sa3df")
    mask: Mask = Field(description="mask strategy by name, or a mapping with its settings")
    mask_ratio: float | None = Field(
        None, gt=0.0, lt=1.0, description="share of patches masked (or give `masked`)"
    )
    masked: int | None = Field(None, gt=0, description="exact number of masked patches")

    @model_validator(mode="after")
    def _one_count(self) -> Self:
        if (self.mask_ratio is None) == (self.masked is None):
            raise ValueError(
                f"give exactly one of mask_ratio={self.mask_ratio} and masked={self.masked}; "
                "set the other to null"
            )
        return self

    def masked_of(self, patches: int) -> int:
        """Masked patches M of ``patches`` patches.

        A ratio is turned into an integer as the method's own code does: of 64 patches at 0.6,
        SA3D masks 39 and Point-MAE 38.
        """
        if self.masked is not None:
            return self.masked
        assert self.mask_ratio is not None
        # + 1e-9: 64 * (1 - 0.75) must floor to 16 whatever the last bit says
        if self.floors_visible:
            return patches - int(patches * (1.0 - self.mask_ratio) + 1e-9)
        return int(patches * self.mask_ratio + 1e-9)

    @property
    def curves(self) -> tuple[Curve, ...]:
        """What reports draw of this method's own metrics.

        Training loss, learning rate and the loss of points are drawn for every method.
        """
        return ()

    def resolved(self, model: BackboneConfig) -> Self:
        """These settings with every default that depends on the backbone filled in.

        Raises:
            ValueError: the backbone cannot do what they ask for.
        """
        masked = self.masked_of(model.num_tokens)
        if not 0 < masked < model.num_tokens:
            raise ValueError(
                f"masks {masked} of {model.num_tokens} patches; at least one must stay visible "
                "and one masked"
            )
        return self

    def deciding(self, model: BackboneConfig) -> dict[str, Any]:
        """What decides a run's result: a ratio counts as the number of patches that it gives."""
        tree: dict[str, Any] = self.model_dump(mode="json", exclude={"mask_ratio", "teacher"})
        return tree | {"masked": self.masked_of(model.num_tokens)}
