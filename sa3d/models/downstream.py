"""What models on a pre-trained encoder share: loading it, and its layers for fine-tuning."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

from sa3d.models.state import LoadReport, load_prefixed

if TYPE_CHECKING:
    from sa3d.models.point_m2ae import ScaleTrunk
    from sa3d.models.point_mae import PointMAEEncoder


class Downstream(nn.Module, ABC):
    """An encoder with pre-trained weights and whatever a task puts on it."""

    encoder: nn.Module
    encoder_weights = "backbone.encoder."  # where an exported pre-training state has them
    num_layers: int  # depth of layer-wise learning-rate decay: scale decay**(num_layers - id)

    @abstractmethod
    def no_weight_decay(self) -> set[str]:
        """Tokens: parameters that weight decay spares although they are not 1-D."""

    @abstractmethod
    def early_layers(self) -> dict[str, int]:
        """Layer of every parameter up to the last block, by name."""

    def layer_ids(self) -> dict[str, int]:
        """Layer of every parameter, 0 (input) to :attr:`num_layers` (scale 1), where all that
        follows the last block is."""
        early = self.early_layers()
        return {name: early.get(name, self.num_layers) for name, _ in self.named_parameters()}

    def load_encoder(self, state: Mapping[str, Tensor]) -> LoadReport:
        """Take the encoder of an exported pre-training state.

        Every tensor of the encoder must be there and nothing else under that name; the rest
        of the model starts fresh, the rest of the state is not needed.

        Raises:
            CheckpointError: the encoder is not the one that this state was trained with.
        """
        prefix = self.encoder_weights
        loaded = tuple(f"encoder.{name}" for name in load_prefixed(self.encoder, state, prefix))
        fresh = tuple(name for name in self.state_dict() if not name.startswith("encoder."))
        return LoadReport(loaded, fresh, tuple(k for k in state if not k.startswith(prefix)))


def plain_layers(encoder: PointMAEEncoder, prefix: str) -> dict[str, int]:
    """Input side 0, block j (0-based) j + 1; names begin with ``prefix``.

    The published code leaves patch embedding and positions at scale 1, faster than the
    blocks above them; here they share the class token's scale.
    """
    ids = {}
    for name, _ in encoder.named_parameters():
        part = name.split(".")
        if part[0] in ("embed", "pos"):
            ids[prefix + name] = 0
        elif part[0] == "stack":
            ids[prefix + name] = int(part[2]) + 1
    return ids


def scale_layers(trunk: ScaleTrunk, prefix: str) -> dict[str, int]:
    """Blocks count through all scales; what makes a scale's tokens goes with the block before
    it. Names begin with ``prefix``.

    The published code decays nothing here, as no name of this model matches its rule.
    """
    ids = {}
    for name, _ in trunk.named_parameters():
        part = name.split(".")
        before = sum(trunk.depths[: int(part[1])])
        ids[prefix + name] = before + int(part[3]) + 1 if part[0] == "stacks" else before
    return ids
