"""Point-M2AE, written down plainly with the published names (see ``plain_layers.py``); one cloud
at a time, so that there is no padding."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from plain_layers import (
    Blocks,
    FeaturePropagation,
    MiniPointNet,
    class_head,
    label_embedding,
    narrowed,
    part_logits,
    patchify,
    positions,
    spread,
)
from torch import Tensor, nn
from torch.nn import functional as F

DIMS, DEPTHS, GROUPS, SIZES = (96, 192, 384), (5, 5, 5), (512, 256, 64), (16, 8, 8)
RADII = (0.32, 0.64, 1.28)
Scale = tuple[Tensor, Tensor, Tensor]


class HierarchicalEncoder(nn.Module):
    def __init__(
        self, dims: Sequence[int], depths: Sequence[int], heads: int, width: int, norms: bool
    ) -> None:
        super().__init__()
        first = MiniPointNet(3, width, 2 * width, 4 * width, dims[0])
        rest = [MiniPointNet(c, c, c, d, d) for c, d in pairwise(dims)]
        self.token_embed = nn.ModuleList([first, *rest])
        self.encoder_pos_embeds = nn.ModuleList(positions(dim, dim) for dim in dims)
        self.encoder_blocks = nn.ModuleList(
            Blocks(dim, depth, heads) for dim, depth in zip(dims, depths, strict=True)
        )
        if norms:
            self.encoder_norms = nn.ModuleList(nn.LayerNorm(dim) for dim in dims)

    def forward(self, scales: Sequence[Scale], visible: Sequence[Tensor], local: bool):
        """All tokens of each scale; those that are not visible keep their embedding."""
        found: list[Tensor] = []
        for i, (centers, members, patches) in enumerate(scales):
            tokens = self.token_embed[i](found[-1][members] if found else patches)
            seen = visible[i]
            bias = None
            if local:
                gap = (centers[:, None] - centers[None]).pow(2).sum(2).sqrt()
                bias = torch.where(gap >= RADII[i], -1e5, 0.0)
            tokens = tokens.clone()
            tokens[seen] = self.encoder_blocks[i](
                tokens[seen], self.encoder_pos_embeds[i](centers[seen]), bias
            )
            found.append(tokens)
        return found


def scales_of(cloud: Tensor, groups: Sequence[int], sizes: Sequence[int]) -> list[Scale]:
    found: list[Scale] = []
    for count, size in zip(groups, sizes, strict=True):
        found.append(patchify(found[-1][0] if found else cloud, count, size))
    return found


class Residual(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.net1 = nn.Sequential(nn.Conv1d(dim, dim, 1), nn.BatchNorm1d(dim), nn.GELU())
        self.net2 = nn.Sequential(nn.Conv1d(dim, dim, 1), nn.BatchNorm1d(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.net2(self.net1(x)) + x)


class Holder(nn.Module):
    """A name that published code has between a module and its parts."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


class TokenPropagation(nn.Module):
    def __init__(self, skip: int, coarse: int) -> None:
        super().__init__()
        net = nn.Sequential(nn.Conv1d(skip + coarse, skip, 1), nn.BatchNorm1d(skip), nn.GELU())
        self.fuse = Holder(net=net)
        self.extraction = Holder(operation=nn.Sequential(Residual(skip)))

    def forward(self, finer: Tensor, centers: Tensor, skip: Tensor, tokens: Tensor) -> Tensor:
        x = torch.cat([skip, spread(finer, centers, tokens)], 1).T[None]
        return self.extraction.operation(self.fuse.net(x))[0].T


class PointM2AE(nn.Module):
    """Pre-training."""

    def __init__(
        self,
        dims: Sequence[int] = DIMS,
        depths: Sequence[int] = DEPTHS,
        heads: int = 6,
        groups: Sequence[int] = GROUPS,
        sizes: Sequence[int] = SIZES,
        width: int = 128,
        decoder_depth: int = 1,
    ) -> None:
        super().__init__()
        self.groups, self.sizes = groups, sizes
        _, middle, top = dims
        self.mask_token = nn.Parameter(torch.zeros(1, top))
        self.h_encoder = HierarchicalEncoder(dims, depths, heads, width, norms=True)
        self.h_decoder = nn.ModuleList(Blocks(d, decoder_depth, heads) for d in (top, middle))
        self.decoder_pos_embeds = nn.ModuleList(positions(d, d) for d in (top, middle))
        self.token_prop = nn.ModuleList([TokenPropagation(middle, top)])
        self.decoder_norm = nn.LayerNorm(middle)
        self.rec_head = nn.Conv1d(middle, 3 * sizes[0], 1)

    def tokens(self, cloud: Tensor) -> Tensor:
        """(G2, C2) of the whole cloud, normalised."""
        scales = scales_of(cloud, self.groups, self.sizes)
        everything = [torch.ones(count, dtype=torch.bool) for count in self.groups]
        return self.h_encoder.encoder_norms[2](self.h_encoder(scales, everything, False)[2])

    def forward(self, cloud: Tensor, masked: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """Normalised visible tokens of the coarsest scale; and by patch of the middle scale that
        is masked, its predicted points in the cloud's coordinates."""
        scales = scales_of(cloud, self.groups, self.sizes)
        visible = [torch.zeros(count, dtype=torch.bool) for count in self.groups[:2]]
        visible.append(~masked)
        for i in (2, 1):
            for member in scales[i][1][visible[i]].flatten():
                visible[i - 1][member] = True
        found = self.h_encoder(scales, visible, False)
        norms = self.h_encoder.encoder_norms
        tokens = norms[2](found[2][~masked])
        skip = norms[1](found[1]) * visible[1][:, None]
        top, finer = scales[2][0], scales[1][0]
        centers = torch.cat([top[~masked], top[masked]])
        x = torch.cat([tokens, self.mask_token.repeat(int(masked.sum()), 1)])
        x = self._decode(0, x, centers)
        x = self._decode(1, self.token_prop[0](finer, centers, skip, x), finer)
        points = self.rec_head(self.decoder_norm(x).T[None])[0].T.reshape(len(finer), -1, 3)
        points = points + finer[:, None]
        return tokens, {i: points[i] for i in range(len(finer)) if not visible[1][i]}

    def _decode(self, stage: int, x: Tensor, centers: Tensor) -> Tensor:
        return self.h_decoder[stage](x, self.decoder_pos_embeds[stage](centers))


class Classifier(nn.Module):
    """For ModelNet40; ``scan``: for ScanObjectNN, which leaves token 0 out of the maximum."""

    def __init__(
        self,
        classes: int,
        scan: bool = False,
        dims: Sequence[int] = DIMS,
        depths: Sequence[int] = DEPTHS,
        heads: int = 6,
        groups: Sequence[int] = GROUPS,
        sizes: Sequence[int] = SIZES,
        width: int = 128,
    ) -> None:
        super().__init__()
        self.groups, self.sizes, self.scan = groups, sizes, scan
        self.h_encoder = HierarchicalEncoder(dims, depths, heads, width, norms=False)
        self.norm = nn.LayerNorm(dims[2])
        self.cls_head_finetune = class_head((2 if scan else 1) * dims[2], classes)

    def forward(self, cloud: Tensor) -> Tensor:
        scales = scales_of(cloud, self.groups, self.sizes)
        everything = [torch.ones(count, dtype=torch.bool) for count in self.groups]
        x = self.norm(self.h_encoder(scales, everything, True)[2])
        if self.scan:
            feature = torch.cat([x.mean(0), x[1:].max(0).values])
        else:
            feature = x.mean(0) + x.max(0).values
        return self.cls_head_finetune(feature[None])[0]


class Segmenter(nn.Module):
    def __init__(
        self,
        parts: int = 50,
        categories: int = 16,
        dims: Sequence[int] = DIMS,
        depths: Sequence[int] = DEPTHS,
        heads: int = 6,
        groups: Sequence[int] = GROUPS,
        sizes: Sequence[int] = SIZES,
        width: int = 128,
    ) -> None:
        super().__init__()
        self.groups, self.sizes = groups, sizes
        self.h_encoder = HierarchicalEncoder(dims, depths, heads, width, norms=True)
        self.label_conv = label_embedding(categories)
        self.propagations = nn.ModuleList(FeaturePropagation(3 + dim, dims[-1]) for dim in dims)
        local, *inner = (narrowed(width, dims[-1]) for width in (1024, 1024, 512, 256))
        widths = (6 * local + 64, *inner, parts)
        for number in range(1, 5):
            self.add_module(f"convs{number}", nn.Conv1d(widths[number - 1], widths[number], 1))
            if number < 4:
                self.add_module(f"bns{number}", nn.BatchNorm1d(widths[number]))

    def forward(self, cloud: Tensor, category: int) -> Tensor:
        """(N, parts) of one cloud."""
        scales = scales_of(cloud, self.groups, self.sizes)
        everything = [torch.ones(count, dtype=torch.bool) for count in self.groups]
        found = self.h_encoder(scales, everything, True)
        local = torch.cat(
            [
                self.propagations[i](cloud, scales[i][0], self.h_encoder.encoder_norms[i](found[i]))
                for i in range(3)
            ]
        )
        one_hot = F.one_hot(torch.tensor(category), self.label_conv[0].in_channels).float()
        label = self.label_conv(one_hot[None, :, None])[0, :, 0]
        whole = torch.cat([local.max(1).values + local.mean(1), label])
        x = torch.cat([whole[:, None].repeat(1, len(cloud)), local])
        return part_logits(self, x, 4)
