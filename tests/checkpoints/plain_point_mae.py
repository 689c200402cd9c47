"""Point-MAE and GM3D, written down plainly with the published names (see ``plain_layers.py``)."""

from __future__ import annotations

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
)
from torch import Tensor, nn
from torch.nn import functional as F


class MaskedEncoder(nn.Module):
    def __init__(self, dim: int, depth: int, heads: int, width: int, norm: str) -> None:
        super().__init__()
        self.encoder = MiniPointNet(3, width, 2 * width, 4 * width, dim)
        self.pos_embed = positions(128, dim)
        self.blocks = Blocks(dim, depth, heads)
        self.last = norm
        self.add_module(norm, nn.LayerNorm(dim))

    def forward(self, patches: Tensor, centers: Tensor, visible: Tensor) -> Tensor:
        """One cloud: tokens of the visible patches."""
        x = self.blocks(self.encoder(patches)[visible], self.pos_embed(centers[visible]))
        return getattr(self, self.last)(x)


class Decoder(nn.Module):
    def __init__(self, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        self.blocks = Blocks(dim, depth, heads).blocks
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, pos: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x + pos)
        return self.norm(x)


class PointMAE(nn.Module):
    """Pre-training."""

    norm, head = "norm", "increase_dim"

    def __init__(
        self,
        dim: int = 384,
        depth: int = 12,
        heads: int = 6,
        decoder_depth: int = 4,
        size: int = 32,
        width: int = 128,
        groups: int = 64,
    ) -> None:
        super().__init__()
        self.groups, self.size = groups, size
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.MAE_encoder = MaskedEncoder(dim, depth, heads, width, self.norm)
        self.decoder_pos_embed = positions(128, dim)
        self.MAE_decoder = Decoder(dim, decoder_depth, heads)
        self.add_module(self.head, nn.Sequential(nn.Conv1d(dim, 3 * size, 1)))

    def forward(self, cloud: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
        """One cloud (N, 3), flags (G,): visible tokens, and (M, K, 3) points about the origin."""
        centers, _, patches = patchify(cloud, self.groups, self.size)
        tokens = self.MAE_encoder(patches, centers, ~masked)
        count = int(masked.sum())
        x = torch.cat([tokens, self.mask_token[0].repeat(count, 1)])
        pos = self.decoder_pos_embed(torch.cat([centers[~masked], centers[masked]]))
        hidden = self.MAE_decoder(x, pos)[-count:]
        points = getattr(self, self.head)(hidden.T[None])[0].T.reshape(count, self.size, 3)
        return tokens, points + centers[masked][:, None]


class GM3D(PointMAE):
    """Pre-training of SA3D (GC predictor of 4 blocks) and SA3DF (12)."""

    norm, head = "norm_p", "increase_dim_just_network_without_feature"

    def __init__(self, gc_depth: int = 12, dim: int = 384, heads: int = 6, **more: int) -> None:
        super().__init__(dim=dim, heads=heads, **more)
        self.mask_token_loss_pred = nn.Parameter(torch.zeros(1, 1, dim))
        self.MAE_decoder_loss_pred = Decoder(dim, gc_depth, heads)
        self.norm_p = nn.LayerNorm(dim)  # nothing uses it
        self.increase_dim_2 = nn.Sequential(
            nn.Conv1d(dim, 1024, 1),
            nn.BatchNorm1d(1024),
            nn.LeakyReLU(0.2),
            nn.Conv1d(1024, dim, 1),
        )

    def scores(self, cloud: Tensor, masked: Tensor) -> Tensor:
        """(G,) of one cloud: visible patches first."""
        centers, _, patches = patchify(cloud, self.groups, self.size)
        tokens = self.MAE_encoder(patches, centers, ~masked)
        x = torch.cat([tokens, self.mask_token_loss_pred[0].repeat(int(masked.sum()), 1)])
        pos = self.decoder_pos_embed(torch.cat([centers[~masked], centers[masked]]))
        return self.increase_dim_2(self.MAE_decoder_loss_pred(x, pos).T[None])[0].mean(0)


class Transformer(nn.Module):
    """What classifier and segmenter share."""

    def __init__(
        self, dim: int, depth: int, heads: int, size: int, width: int, groups: int, norm: str
    ) -> None:
        super().__init__()
        self.groups, self.size, self.last = groups, size, norm
        self.encoder = MiniPointNet(3, width, 2 * width, 4 * width, dim)
        self.pos_embed = positions(128, dim)
        self.blocks = Blocks(dim, depth, heads)
        self.add_module(norm, nn.LayerNorm(dim))

    def normed(self, x: Tensor) -> Tensor:
        return getattr(self, self.last)(x)


class Classifier(Transformer):
    def __init__(
        self,
        classes: int,
        dim: int = 384,
        depth: int = 12,
        heads: int = 6,
        size: int = 32,
        width: int = 128,
        groups: int = 64,
        norm: str = "norm",
    ) -> None:
        super().__init__(dim, depth, heads, size, width, groups, norm)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.cls_pos = nn.Parameter(torch.zeros(1, 1, dim))
        self.cls_head_finetune = class_head(2 * dim, classes)

    def forward(self, cloud: Tensor) -> Tensor:
        centers, _, patches = patchify(cloud, self.groups, self.size)
        x = torch.cat([self.cls_token[0], self.encoder(patches)])
        x = self.normed(self.blocks(x, torch.cat([self.cls_pos[0], self.pos_embed(centers)])))
        return self.cls_head_finetune(torch.cat([x[0], x[1:].max(0).values])[None])[0]


class Segmenter(Transformer):
    def __init__(
        self,
        parts: int = 50,
        categories: int = 16,
        dim: int = 384,
        depth: int = 12,
        heads: int = 6,
        size: int = 32,
        width: int = 128,
        groups: int = 128,
    ) -> None:
        super().__init__(dim, depth, heads, size, width, groups, "norm")
        self.label_conv = label_embedding(categories)
        self.propagation_0 = FeaturePropagation(3 + 3 * dim, dim)
        local, one, two = (narrowed(width, dim) for width in (1024, 512, 256))
        self.convs1 = nn.Conv1d(local + 6 * dim + 64, one, 1)
        self.convs2, self.convs3 = nn.Conv1d(one, two, 1), nn.Conv1d(two, parts, 1)
        self.bns1, self.bns2 = nn.BatchNorm1d(one), nn.BatchNorm1d(two)

    def forward(self, cloud: Tensor, category: int) -> Tensor:
        """(N, parts) of one cloud."""
        centers, _, patches = patchify(cloud, self.groups, self.size)
        x, pos = self.encoder(patches), self.pos_embed(centers)
        third, taps = len(self.blocks.blocks) // 3, []
        for number, block in enumerate(self.blocks.blocks):
            x = block(x + pos)
            if number % third == third - 1:
                taps.append(self.normed(x))
        features = torch.cat(taps, 1)
        one_hot = F.one_hot(torch.tensor(category), self.label_conv[0].in_channels).float()
        label = self.label_conv(one_hot[None, :, None])[0, :, 0]
        local = self.propagation_0(cloud, centers, features)
        whole = torch.cat([features.max(0).values, features.mean(0), label])
        x = torch.cat([local, whole[:, None].repeat(1, len(cloud))])
        return part_logits(self, x, 3)
