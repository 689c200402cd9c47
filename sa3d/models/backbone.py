"""What a backbone must offer, so that methods, tasks and pictures never name one.

A mask is always decided at one scale, of ``num_tokens`` patches. A backbone with several
scales derives its other masks from that one and hangs whatever else it needs on subclasses of
:class:`Groups`, :class:`Encoded` and :class:`Decoded`.

Two orders of patches occur. *Natural*: ascending patch index. *Visible first*: the visible
patches ascending, then the masked ones ascending (``mask.order``); with no mask the two agree.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sa3d.layers.patches import Groups
from sa3d.masking.base import Mask


@dataclass(frozen=True)
class Encoded:
    """Visible tokens at the scale of the mask."""

    tokens: Tensor  # (B, V, C) after the encoder's final LayerNorm, ascending patch index


@dataclass(frozen=True)
class Decoded:
    """Decoder features of the masked patches at the scale of the mask."""

    tokens: Tensor  # (B, M, C), ascending


@dataclass(frozen=True)
class PointLoss:
    """Reconstruction error in point space, float32."""

    loss: Tensor  # scalar, with a gradient: the backbone's own reconstruction objective
    per_patch: Tensor  # (B, M) of each masked patch: its hardness
    # (B, M) bool, False where a masked patch has no point to rebuild (a multi-scale backbone
    # may rebuild at a finer scale); None: all are valid
    valid: Tensor | None = None


class Encoder(nn.Module, ABC):
    """Visible patches to tokens. Every parameter of the backbone that downstream tasks keep."""

    @abstractmethod
    def forward(self, groups: Groups, mask: Mask | None) -> Encoded:
        """Encode what ``mask`` leaves visible, or with None every patch."""


class Decoder(nn.Module, ABC):
    """Visible tokens to features of all patches; dropped after pre-training."""

    mask_token: nn.Parameter  # (1, 1, C)
    pos: nn.Module  # patch centres (B, n, 3) -> position embeddings (B, n, C)
    # (B, n, C) decoder tokens to points; trains in no other way than through point_loss and
    # reconstruct, so that a method that never calls them freezes it
    head: nn.Module


class Backbone(nn.Module, ABC):
    """Encoder, decoder and patches of one architecture, made of its own section of
    ``params.yaml``: ``Backbone(config)``."""

    num_tokens: int  # G, patches at the scale where masking is decided
    dim: int  # C, width of the tokens there
    heads: int  # attention heads there
    drop_path: float  # largest stochastic-depth rate of a stack
    encoder: Encoder
    decoder: Decoder
    # whether on a GPU no shape and no decision depends on what the device has computed, so that a
    # training step can be recorded (sa3d.engine.graphed)
    capturable = False

    @abstractmethod
    def group(self, points: Tensor) -> Groups:
        """Cut clouds (B, N, 3) into patches; float32, no gradient.

        Raises:
            ValueError: fewer points than patches or than points a patch.
        """

    @abstractmethod
    def decode(self, encoded: Encoded, groups: Groups, mask: Mask) -> Decoded:
        """Features of the masked patches from the visible ones and mask tokens."""

    @abstractmethod
    def point_loss(self, decoded: Decoded, groups: Groups, mask: Mask) -> PointLoss:
        """Error of the points predicted for masked patches against the true ones."""

    @abstractmethod
    def reconstruct(self, decoded: Decoded, groups: Groups, mask: Mask) -> Tensor:
        """Points predicted for each masked patch, in the cloud's own coordinates.

        Returns:
            (B, M, P, 3) float32, masked patches ascending; NaN where a patch has fewer than
            P predicted points.
        """

    def decode_features(self, tokens: Tensor, centers: Tensor, last: int | None = None) -> Tensor:
        """Points that the decoder reads out of features alone, no mask token among them.

        Source: the point-space half of SA3DF's distillation (GM3D code), where the knowledge
        teacher decodes the student's features and its own. A backbone that offers it says so in
        its settings (``decodes_features``); no other is asked.

        Args:
            tokens: (B, n, C).
            centers: (B, n, 3) of the same patches.
            last: how many patches at the end are wanted; None: all.

        Returns:
            (B, n, P, 3) or (B, last, P, 3) float32, relative to the centres.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot decode features alone")

    def feature_norm(self) -> nn.Module:
        """What must follow the decoder's tokens before they are compared with the encoder's
        normalised ones: nothing where the decoder normalises itself."""
        return nn.Identity()

    def members(self, groups: Groups) -> Tensor:
        """(B, G, K') int64: the points of the cloud that each patch is made of, for pictures."""
        return groups.index

    def encode(self, groups: Groups, mask: Mask | None) -> Encoded:
        """Encode what ``mask`` leaves visible, or with None every patch."""
        encoded: Encoded = self.encoder(groups, mask)
        return encoded

    def decoder_positions(self, groups: Groups) -> Tensor:
        """(B, G, C) position embeddings of the decoder, natural order; the GC predictor's too."""
        positions: Tensor = self.decoder.pos(groups.centers)
        return positions

    def pool(self, tokens: Tensor) -> Tensor:
        """(B, G, C) -> (B, C): mean plus maximum over patches, the published SVM feature."""
        return tokens.mean(1) + tokens.amax(1)

    @torch.no_grad()
    def features(self, points: Tensor) -> Tensor:
        """Frozen features of clouds (B, N, 3) for a linear classifier: (B, D) float32.

        Every patch is visible. The module must be in ``eval()``: batch statistics would make
        a cloud's features depend on its neighbours in the batch.
        """
        assert not self.training, "features() needs eval()"
        return self.pool(self.encode(self.group(points), None).tokens).float()

    def load_student(self, state: Mapping[str, Tensor]) -> None:
        """Load this backbone from an exported pre-training state (``backbone.*``), strictly.

        Raises:
            CheckpointError: a tensor is missing, of another shape, or unknown.
        """
        from sa3d.models.loading import load_prefixed

        load_prefixed(self, state, "backbone.")
