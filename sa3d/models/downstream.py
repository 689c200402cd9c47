"""Interfaces of the models that tasks train on a pre-trained encoder.

Each backbone has its own models (``point_mae/heads.py``, ``point_m2ae/heads.py``), named by the
registry: pre-training imports none of them. Their layers are in :mod:`sa3d.layers.heads`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from sa3d.models.loading import LoadReport, load_prefixed


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


class Classifier(Downstream):
    """Points to class logits."""

    @abstractmethod
    def forward(self, points: Tensor) -> Tensor:
        """(B, N, 3) -> (B, classes) logits."""


class Segmenter(Downstream):
    """Points and the category of their cloud to part logits."""

    @abstractmethod
    def forward(self, points: Tensor, category: Tensor) -> Tensor:
        """Logits of every part, those of other categories included.

        Args:
            points: (B, N, 3).
            category: (B,) int64.

        Returns:
            (B, N, parts) float32.

        Raises:
            ValueError: a category that the model has not, or fewer points than patches or than
                points of a patch.
        """

    def no_weight_decay(self) -> set[str]:
        """There are no tokens."""
        return set()
