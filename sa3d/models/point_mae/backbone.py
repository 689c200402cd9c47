"""Point-MAE (arXiv 2203.06604): one scale of patches, a plain transformer.

Default settings give 209 tensors and 29 006 432 parameters, as the published code has.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sa3d.layers.patches import Groups, PatchEmbed, PositionMLP, group_points
from sa3d.layers.transformer import Stack, drop_rates, init_weights, token
from sa3d.losses import patch_chamfer
from sa3d.masking.base import Mask, take
from sa3d.models.backbone import Backbone, Decoded, Decoder, Encoded, Encoder, PointLoss
from sa3d.models.point_mae.settings import PointMAEConfig


class PointMAEEncoder(Encoder):
    """Patch embedding, positions, blocks, LayerNorm."""

    def __init__(self, config: PointMAEConfig) -> None:
        super().__init__()
        dim = config.dim
        self.embed = PatchEmbed.of_points(dim, config.embed_width)
        self.pos = PositionMLP(dim)
        init_weights(self.embed, "trunc_normal")
        init_weights(self.pos, "trunc_normal")
        rates = drop_rates(config.drop_path, config.depth)
        self.stack = Stack(dim, rates, config.heads, init="trunc_normal")
        self.norm = nn.LayerNorm(dim)

    def forward(self, groups: Groups, mask: Mask | None) -> Encoded:
        """See the base class."""
        if mask is None:
            tokens, centers = self.embed(groups.patches), groups.centers
        else:
            tokens = self.embed(groups.patches, mask.visible)
            centers = take(groups.centers, mask.visible)
        return Encoded(self.norm(self.stack(tokens, self.pos(centers))))


class PointMAEDecoder(Decoder):
    """Mask token, positions, blocks, LayerNorm, and a linear head to the K points of a patch."""

    def __init__(self, dim: int, depth: int, heads: int, drop_path: float, size: int) -> None:
        super().__init__()
        self.mask_token = token(dim)
        self.pos = PositionMLP(dim)
        self.stack = Stack(dim, drop_rates(drop_path, depth), heads, init="xavier")
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, 3 * size)

    def forward(self, tokens: Tensor, centers: Tensor, last: int | None = None) -> Tensor:
        """(B, n, C) tokens at centres (B, n, 3) -> (B, n, C) normalised features, or (B, last, C)
        of as many at the end."""
        features: Tensor = self.norm(self.stack(tokens, self.pos(centers), last=last))
        return features

    def points(self, features: Tensor) -> Tensor:
        """(B, n, C) -> (B, n, K, 3) float32, relative to the patch's centre."""
        points: Tensor = self.head(features)
        return points.float().view(*features.shape[:2], -1, 3)


class PointMAE(Backbone):
    """Encoder on visible patches, light decoder on all; masked patches are rebuilt."""

    encoder: PointMAEEncoder
    decoder: PointMAEDecoder
    capturable = True

    def __init__(self, config: PointMAEConfig) -> None:
        super().__init__()
        self.num_tokens, self.group_size = config.groups, config.group_size
        self.dim, self.heads, self.drop_path = config.dim, config.heads, config.drop_path
        self.encoder = PointMAEEncoder(config)
        self.decoder = PointMAEDecoder(
            config.dim, config.decoder_depth, config.heads, config.drop_path, config.group_size
        )

    def group(self, points: Tensor) -> Groups:
        """See the base class."""
        return group_points(points, self.num_tokens, self.group_size)

    def decode(self, encoded: Encoded, groups: Groups, mask: Mask) -> Decoded:
        """See the base class."""
        batch, masked = mask.masked.shape
        hidden = self.decoder.mask_token.expand(batch, masked, -1)
        tokens = torch.cat([encoded.tokens, hidden.to(encoded.tokens.dtype)], dim=1)
        return Decoded(self.decoder(tokens, take(groups.centers, mask.order), masked))

    def point_loss(self, decoded: Decoded, groups: Groups, mask: Mask) -> PointLoss:
        """See the base class; the loss is the mean over all masked patches."""
        target = take(groups.patches, mask.masked)
        per_patch = patch_chamfer(self.decoder.points(decoded.tokens), target)
        return PointLoss(per_patch.mean(), per_patch)

    def reconstruct(self, decoded: Decoded, groups: Groups, mask: Mask) -> Tensor:
        """See the base class; P is K."""
        predicted = self.decoder.points(decoded.tokens)
        return predicted + take(groups.centers, mask.masked).unsqueeze(2)

    def decode_features(self, tokens: Tensor, centers: Tensor, last: int | None = None) -> Tensor:
        """See the base class; P is K."""
        return self.decoder.points(self.decoder(tokens, centers, last))
