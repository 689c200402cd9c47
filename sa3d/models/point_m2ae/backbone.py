"""Point-M2AE (arXiv 2205.14401): three scales of patches, masked and rebuilt together.

Default settings give 293 tensors and 15 255 856 parameters, as the published code has. Where that
code lets padding take part in attention, keeps patch 0 of a batch visible whatever the mask says
and drops patches that no coarser one holds, this one does not: a cloud's tokens do not depend on
the batch around it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import point_ops
import torch
from torch import Tensor, nn

from sa3d.layers.patches import Groups, PatchEmbed, PositionMLP
from sa3d.layers.propagation import Propagation
from sa3d.layers.transformer import Stack, drop_rates, init_weights, token
from sa3d.losses import patch_chamfer
from sa3d.masking.base import Mask, take
from sa3d.models.backbone import Backbone, Decoded, Decoder, Encoded, Encoder, PointLoss
from sa3d.models.point_m2ae.scales import (
    Ragged,
    ScaleGroups,
    cloud_members,
    group_scales,
    longest,
    most_visible,
    project_mask,
)
from sa3d.models.point_m2ae.settings import PointM2AEConfig


@dataclass(frozen=True)
class ScaleEncoded(Encoded):
    """Also the middle scale, for the decoder's skip connection."""

    middle: Tensor  # (B, G1, C1) after its LayerNorm, zero where masked
    middle_masked: Tensor  # (B, G1) bool


@dataclass(frozen=True)
class ScaleDecoded(Decoded):
    """Also what the decoder makes of the middle scale, which is the one that is rebuilt."""

    middle: Tensor  # (B, G1, C1) after the decoder's LayerNorm, natural order
    middle_masked: Tensor  # (B, G1) bool


class PointM2AETrunk(nn.Module):
    """Embeddings, positions and blocks of every scale: all that a classifier keeps."""

    def __init__(self, config: PointM2AEConfig) -> None:
        super().__init__()
        dims = config.dims
        self.depths, self.radii = config.depths, config.radii
        self.embeds = nn.ModuleList([PatchEmbed.of_points(dims[0], config.embed_width)])
        self.embeds.extend(
            PatchEmbed(below, (below, below), dim, dim) for below, dim in itertools.pairwise(dims)
        )
        self.pos = nn.ModuleList(PositionMLP(dim, dim) for dim in dims)
        init_weights(self.embeds, "trunc_normal")
        init_weights(self.pos, "trunc_normal")
        # the rate rises through all the blocks, not anew in every scale
        rates = iter(drop_rates(config.drop_path, sum(config.depths)))
        self.stacks = nn.ModuleList(
            Stack(dim, [next(rates) for _ in range(depth)], config.heads, init="trunc_normal")
            for dim, depth in zip(dims, config.depths, strict=True)
        )

    def forward(
        self, groups: ScaleGroups, visible: list[Ragged] | None = None, local: bool = False
    ) -> list[Tensor]:
        """Tokens (B, G_i, C_i) of each scale, fine to coarse, not normalised.

        Args:
            groups: of the clouds.
            visible: patches of each scale that are encoded, None for all. The others keep
                their embedding: it enters the coarser scale's batch statistics and masked
                patches, and nothing that is visible.
            local: tokens attend within the radius of their scale; of whole clouds only, as a
                padding token would see nothing.
        """
        assert visible is None or not local
        found: list[Tensor] = []
        for number, scale in enumerate(groups.scales):
            below = point_ops.group(found[-1], scale.index) if found else scale.patches
            tokens = self.embeds[number](below)
            centers, stack, rows = scale.centers, self.stacks[number], None
            if visible is not None:
                rows = visible[number]
                centers = take(centers, rows.slots)
            encoded = stack(
                tokens if rows is None else take(tokens, rows.slots),
                self.pos[number](centers),
                _within(centers, self.radii[number]) if local else _unpadded(rows),
            )
            found.append(encoded if rows is None else rows.put(encoded, tokens))
        return found


def _within(centers: Tensor, radius: float) -> Tensor:
    """(B, n, n) bool: which tokens are nearer than ``radius``, a token itself among them."""
    gap = (centers.unsqueeze(2) - centers.unsqueeze(1)).square().sum(-1)
    return gap < radius * radius


def _unpadded(rows: Ragged | None) -> Tensor | None:
    """(B, 1, n) bool: which tokens are no padding; None: none is."""
    return None if rows is None or rows.valid is None else rows.valid.unsqueeze(1)


class PointM2AEEncoder(Encoder):
    """The trunk and a LayerNorm for each scale, after all of them."""

    def __init__(self, config: PointM2AEConfig) -> None:
        super().__init__()
        self.trunk = PointM2AETrunk(config)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for dim in config.dims)

    def forward(self, groups: Groups, mask: Mask | None) -> ScaleEncoded:
        """See the base class."""
        assert isinstance(groups, ScaleGroups)
        if mask is None:
            _, middle, top = self.trunk(groups)
            masked = torch.zeros(middle.shape[:2], dtype=torch.bool, device=middle.device)
            return ScaleEncoded(self.norms[2](top), self.norms[1](middle), masked)
        fine, masked, _ = project_mask(groups, mask)
        seen = ~fine, ~masked
        widths = most_visible(groups, mask) if fine.is_cuda else longest(*seen)
        visible = [Ragged.of(each, width) for each, width in zip(seen, widths, strict=True)]
        visible.append(Ragged(mask.visible, None))
        _, middle, top = self.trunk(groups, visible)
        middle = self.norms[1](middle).masked_fill(masked.unsqueeze(2), 0.0)
        return ScaleEncoded(self.norms[2](take(top, mask.visible)), middle, masked)


class PointM2AEDecoder(Decoder):
    """Two stages: the coarsest scale with mask tokens, then the middle one with the encoder's
    visible tokens beside what is interpolated from the first stage."""

    def __init__(self, config: PointM2AEConfig) -> None:
        super().__init__()
        _, middle, top = config.dims
        depth = config.decoder_depth
        rates = drop_rates(config.drop_path, 2 * depth)
        self.mask_token = token(top)
        self.pos = PositionMLP(top, top)
        self.stack = Stack(top, rates[:depth], config.heads, init="xavier")
        self.propagate = Propagation(middle, top, middle)
        self.middle_pos = PositionMLP(middle, middle)
        self.middle_stack = Stack(middle, rates[depth:], config.heads, init="xavier")
        self.norm = nn.LayerNorm(middle)
        # as many points as a patch of the finest scale has, for a patch of the middle one
        self.head = nn.Linear(middle, 3 * config.group_sizes[0])

    def forward(self, encoded: ScaleEncoded, groups: ScaleGroups, mask: Mask) -> ScaleDecoded:
        """See :meth:`Backbone.decode`."""
        hidden = self.mask_token.expand(*mask.masked.shape, -1)
        tokens = torch.cat([encoded.tokens, hidden.to(encoded.tokens.dtype)], dim=1)
        centers = take(groups.centers, mask.order)
        tokens = self.stack(tokens, self.pos(centers))
        finer = groups.scales[1].centers
        middle = self.propagate(finer, encoded.middle, centers, tokens)
        middle = self.norm(self.middle_stack(middle, self.middle_pos(finer)))
        hidden = tokens[:, mask.visible.shape[1] :]
        return ScaleDecoded(hidden, middle, encoded.middle_masked)

    def points(self, features: Tensor) -> Tensor:
        """(B, n, C1) -> (B, n, P, 3) float32, relative to the centre of each."""
        points: Tensor = self.head(features)
        return points.float().view(*features.shape[:2], -1, 3)


class PointM2AE(Backbone):
    """Masking is decided at the coarsest scale; patches of the middle one are rebuilt."""

    encoder: PointM2AEEncoder
    decoder: PointM2AEDecoder
    capturable = True

    def __init__(self, config: PointM2AEConfig) -> None:
        super().__init__()
        self.groups, self.group_sizes = config.groups, config.group_sizes
        self.num_tokens, self.dim = config.num_tokens, config.dims[-1]
        self.heads, self.drop_path = config.heads, config.drop_path
        self.encoder = PointM2AEEncoder(config)
        self.decoder = PointM2AEDecoder(config)
        # pre-training reads the finest scale through the coarser ones alone; its LayerNorm waits
        # for segmentation, and a parameter without gradient would stall parallel training
        self.encoder.norms[0].requires_grad_(False)

    def group(self, points: Tensor) -> ScaleGroups:
        """See the base class."""
        return group_scales(points, self.groups, self.group_sizes)

    def decode(self, encoded: Encoded, groups: Groups, mask: Mask) -> ScaleDecoded:
        """See the base class."""
        decoded: ScaleDecoded = self.decoder(encoded, groups, mask)
        return decoded

    def feature_norm(self) -> nn.Module:
        """A LayerNorm: the first stage of the decoder has none of its own, and the features that
        it is compared with end in one."""
        return nn.LayerNorm(self.dim)

    def members(self, groups: Groups) -> Tensor:
        """See the base class; K' is K0 K1 K2."""
        assert isinstance(groups, ScaleGroups)
        return cloud_members(groups)

    def point_loss(self, decoded: Decoded, groups: Groups, mask: Mask) -> PointLoss:
        """See the base class; the loss is the mean over all masked patches of the middle scale.

        The hardness of a masked coarse patch is the mean over its masked members; a patch all of
        whose members are visible, by belonging to other patches too, has none.
        """
        assert isinstance(decoded, ScaleDecoded)
        assert isinstance(groups, ScaleGroups)
        flags = decoded.middle_masked
        # of all patches, the visible ones left out after: cheaper than gathering the others
        error = patch_chamfer(self.decoder.points(decoded.middle), groups.scales[1].patches)
        error = error.masked_fill(~flags, 0.0)
        loss = error.sum() / flags.sum().clamp_min(1)
        members = take(groups.index, mask.masked)
        batch, masked, size = members.shape
        errors = take(error, members.flatten(1)).view(batch, masked, size)
        count = take(flags, members.flatten(1)).view(batch, masked, size).sum(2)
        return PointLoss(loss, errors.sum(2) / count.clamp_min(1), count > 0)

    def reconstruct(self, decoded: Decoded, groups: Groups, mask: Mask) -> Tensor:
        """See the base class: the points of a patch's masked members, P is K2 times K0."""
        assert isinstance(decoded, ScaleDecoded)
        assert isinstance(groups, ScaleGroups)
        points = self.decoder.points(decoded.middle) + groups.scales[1].centers.unsqueeze(2)
        visible = ~decoded.middle_masked
        points = points.masked_fill(visible[:, :, None, None], torch.nan)
        members = take(groups.index, mask.masked)
        found = take(points, members.flatten(1))
        return found.reshape(*members.shape[:2], -1, 3)
