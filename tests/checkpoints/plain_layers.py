"""Layers of the published models, written down plainly with torch alone and with the published
names; nothing of the package is used. What the converted models must agree with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def farthest_points(cloud: Tensor, count: int) -> list[int]:
    """By the definition, from point 0; cloud (N, 3)."""
    chosen = [0]
    gap = torch.full((len(cloud),), float("inf"))
    while len(chosen) < count:
        gap = torch.minimum(gap, ((cloud - cloud[chosen[-1]]) ** 2).sum(1))
        chosen.append(int(gap.argmax()))
    return chosen


def patchify(cloud: Tensor, count: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Centres (G, 3), members (G, K) and patches (G, K, 3) relative to their centre."""
    centers = cloud[farthest_points(cloud, count)]
    members = torch.stack([((cloud - c) ** 2).sum(1).argsort()[:size] for c in centers])
    return centers, members, cloud[members] - centers[:, None]


def spread(points: Tensor, centers: Tensor, features: Tensor) -> Tensor:
    """Features (m, C) at centres, at points (n, 3): three nearest, weights 1 / d^2."""
    rows = []
    for point in points:
        square = ((centers - point) ** 2).sum(1)
        near = square.argsort()[:3]
        weight = 1 / (square[near] + 1e-8)
        rows.append((weight / weight.sum()) @ features[near])
    return torch.stack(rows)


class MiniPointNet(nn.Module):
    """(G, K, I) -> (G, out)."""

    def __init__(self, inputs: int, one: int, two: int, three: int, out: int) -> None:
        super().__init__()
        self.first_conv = nn.Sequential(
            nn.Conv1d(inputs, one, 1), nn.BatchNorm1d(one), nn.ReLU(), nn.Conv1d(one, two, 1)
        )
        self.second_conv = nn.Sequential(
            nn.Conv1d(2 * two, three, 1),
            nn.BatchNorm1d(three),
            nn.ReLU(),
            nn.Conv1d(three, out, 1),
        )

    def forward(self, patches: Tensor) -> Tensor:
        x = self.first_conv(patches.transpose(1, 2))
        largest = x.max(2, keepdim=True).values.repeat(1, 1, x.shape[2])
        return self.second_conv(torch.cat([largest, x], 1)).max(2).values


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        dim = x.shape[1]
        q, k, v = self.qkv(x).chunk(3, 1)
        out = []
        for h in range(self.heads):
            part = slice(h * dim // self.heads, (h + 1) * dim // self.heads)
            scores = q[:, part] @ k[:, part].T / (dim // self.heads) ** 0.5
            if bias is not None:
                scores = scores + bias
            out.append(scores.softmax(1) @ v[:, part])
        return self.proj(torch.cat(out, 1))


class Mlp(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """One cloud, (n, C) -> (n, C)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.mlp = Mlp(dim)
        self.attn = Attention(dim, heads)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        x = x + self.attn(self.norm1(x), bias)
        return x + self.mlp(self.norm2(x))


class Blocks(nn.Module):
    def __init__(self, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))

    def forward(self, x: Tensor, pos: Tensor, bias: Tensor | None = None) -> Tensor:
        for block in self.blocks:
            x = block(x + pos, bias)
        return x


def positions(hidden: int, dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, hidden), nn.GELU(), nn.Linear(hidden, dim))


def class_head(width: int, classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, 256),
        nn.BatchNorm1d(256),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(256, 256),
        nn.BatchNorm1d(256),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(256, classes),
    )


def label_embedding(categories: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(categories, 64, 1, bias=False), nn.BatchNorm1d(64), nn.LeakyReLU(0.2)
    )


def narrowed(width: int, dim: int) -> int:
    """Width of a head's layer beside an encoder narrower than the published 384."""
    return max(64, 8 * round(width * dim / 384 / 8))


class FeaturePropagation(nn.Module):
    """One cloud: (m, C) at centres -> (1024, N) at points, fewer for an encoder below 384."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        widths = (channels, narrowed(1536, dim), narrowed(1024, dim))
        self.mlp_convs = nn.ModuleList(nn.Conv1d(widths[i], widths[i + 1], 1) for i in range(2))
        self.mlp_bns = nn.ModuleList(nn.BatchNorm1d(w) for w in widths[1:])

    def forward(self, points: Tensor, centers: Tensor, features: Tensor) -> Tensor:
        x = torch.cat([points, spread(points, centers, features)], 1).T[None]
        for conv, norm in zip(self.mlp_convs, self.mlp_bns, strict=True):
            x = F.relu(norm(conv(x)))
        return x[0]


def part_logits(model: nn.Module, x: Tensor, layers: int) -> Tensor:
    """(channels, N) through convs1, bns1, ...: (N, parts)."""
    x = x[None]
    for number in range(1, layers):
        x = F.relu(getattr(model, f"bns{number}")(getattr(model, f"convs{number}")(x)))
    return getattr(model, f"convs{layers}")(x)[0].T


def shuffled(model: nn.Module, seed: int) -> nn.Module:
    """Every tensor random, statistics and counters too, so that each of them matters."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.state_dict().items():
        if not value.is_floating_point():
            value.fill_(int(torch.randint(1, 10_000, (), generator=generator)))
        elif name.endswith("running_var"):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
        elif value.dim() > 1 and not name.startswith(("mask_token", "cls_token", "cls_pos")):
            value.copy_(torch.randn(value.shape, generator=generator) / value[0].numel() ** 0.5)
        else:
            value.copy_(torch.randn(value.shape, generator=generator) * 0.3)
            if name.endswith("weight"):
                value.add_(1)
    return model.eval()
