"""Point-M2AE written down plainly: convolutions on (B, C, n), and a loop over the clouds wherever
they differ in the number of visible patches. It shares the weights of a :class:`PointM2AE`: the
oracle of its tests, and the peer that ``benchmarks/training.py`` times it against.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sa3d.models.point_m2ae.backbone import PointM2AE


def farthest_points(cloud: Tensor, count: int) -> Tensor:
    """Indices (count,) by the definition, from point 0."""
    chosen = [0]
    nearest = (cloud - cloud[0]).square().sum(1)
    for _ in range(count - 1):
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (cloud - cloud[chosen[-1]]).square().sum(1))
    return torch.tensor(chosen)


def grouped(clouds: Tensor, count: int, size: int) -> tuple[Tensor, Tensor]:
    """Centres (B, count, 3) and members (B, count, size)."""
    centers, members = [], []
    for cloud in clouds:
        center = cloud[farthest_points(cloud, count)]
        gap = (center[:, None] - cloud[None]).square().sum(2)
        centers.append(center)
        members.append(gap.topk(size, largest=False).indices)
    return torch.stack(centers), torch.stack(members)


def conv(layer: nn.Linear, x: Tensor) -> Tensor:
    """The layer as a convolution of kernel 1 on (n, channels, length)."""
    return functional.conv1d(x, layer.weight.unsqueeze(2), layer.bias)


def embed(layers: Any, patches: Tensor) -> Tensor:
    """(B, G, K, I) -> (B, G, C)."""
    batch, groups, size, inputs = patches.shape
    x = patches.reshape(batch * groups, size, inputs).transpose(1, 2)
    x = conv(layers.point2, functional.relu(batch_norm(layers.norm1, conv(layers.point1, x))))
    whole = x.max(2, keepdim=True).values.expand(-1, -1, size)
    x = torch.cat([whole, x], dim=1)
    x = conv(layers.patch2, functional.relu(batch_norm(layers.norm2, conv(layers.patch1, x))))
    return x.max(2).values.view(batch, groups, -1)


def attend(block: Any, x: Tensor, allowed: Tensor) -> Tensor:
    """A pre-norm block; ``allowed`` (B, n, n) bool."""
    batch, length, dim = x.shape
    heads = block.attn.heads
    y = block.norm1(x)
    q, k, v = block.attn.qkv(y).view(batch, length, 3, heads, dim // heads).permute(2, 0, 3, 1, 4)
    weight = (q @ k.transpose(2, 3)) * (dim // heads) ** -0.5
    weight = weight.masked_fill(~allowed[:, None], float("-inf")).softmax(3)
    y = (weight @ v).transpose(1, 2).reshape(batch, length, dim)
    x = x + block.drop_path(block.attn.proj(y))
    return x + block.drop_path(block.mlp(block.norm2(x)))


class PlainM2AE:
    """One pre-training pass of ``model``, by loops."""

    def __init__(self, model: PointM2AE) -> None:
        self.model = model
        self.trunk: Any = model.encoder.trunk

    def groups(self, points: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Centres, members and relative patches of each scale."""
        found, below = [], points
        for count, size in zip(self.model.groups, self.model.group_sizes, strict=True):
            centers, members = grouped(below, count, size)
            patches = torch.stack([c[m] for c, m in zip(below, members, strict=True)])
            found.append((centers, members, patches - centers.unsqueeze(2)))
            below = centers
        return found

    def visible(self, scales: list[Any], masked: Tensor) -> list[list[Tensor]]:
        """By scale and cloud, the visible patches, ascending; ``masked`` (B, G) of the coarsest."""
        found = [[(~row).nonzero()[:, 0] for row in masked]]
        for (_, members, _), (centers, _, _) in zip(scales[:0:-1], scales[-2::-1], strict=True):
            rows = []
            for cloud, seen in enumerate(found[-1]):
                held = {int(member) for patch in seen for member in members[cloud, patch]}
                rows.append(torch.tensor(sorted(held)))
            assert centers.shape[0] == len(rows)
            found.append(rows)
        return found[::-1]

    def encode(self, scales: list[Any], seen: list[list[Tensor]], radii: Any = None) -> list[Any]:
        """Tokens (B, G, C) of each scale; patches that are not in ``seen`` keep their embedding."""
        found: list[Tensor] = []
        for number, (centers, members, patches) in enumerate(scales):
            rows = seen[number]
            if found:
                patches = torch.stack([t[m] for t, m in zip(found[-1], members, strict=True)])
            tokens = embed(self.trunk.embeds[number], patches)
            batch, _, dim = tokens.shape
            longest = max(len(row) for row in rows)
            x = tokens.new_zeros(batch, longest, dim)
            places = centers.new_zeros(batch, longest, 3)
            allowed = torch.zeros(batch, longest, longest, dtype=torch.bool)
            for cloud, row in enumerate(rows):
                x[cloud, : len(row)] = tokens[cloud, row]
                places[cloud, : len(row)] = centers[cloud, row]
                allowed[cloud, :, : len(row)] = True
            if radii is not None:
                gap = (places[:, :, None] - places[:, None]).square().sum(3)
                allowed &= gap < radii[number] ** 2
            position = self.trunk.pos[number](places)
            for block in self.trunk.stacks[number].blocks:
                x = attend(block, x + position, allowed)
            full = tokens.clone()
            for cloud, row in enumerate(rows):
                full[cloud, row] = x[cloud, : len(row)]
            found.append(full)
        return found

    def loss(self, points: Tensor, masked: Tensor) -> Tensor:
        """Mean Chamfer distance of the masked patches of the middle scale."""
        model, decoder = self.model, self.model.decoder
        scales = self.groups(points)
        seen = self.visible(scales, masked)
        _, middle, top = self.encode(scales, seen)
        top, middle = model.encoder.norms[2](top), model.encoder.norms[1](middle)
        skip = torch.zeros_like(middle)
        tokens, places = [], []
        for cloud, row in enumerate(seen[1]):
            skip[cloud, row] = middle[cloud, row]
            hidden = masked[cloud].nonzero()[:, 0]
            tokens.append(
                torch.cat(
                    [top[cloud, seen[2][cloud]], decoder.mask_token[0].expand(len(hidden), -1)]
                )
            )
            places.append(
                torch.cat([scales[2][0][cloud, seen[2][cloud]], scales[2][0][cloud, hidden]])
            )
        x, place = torch.stack(tokens), torch.stack(places)
        everywhere = torch.ones(len(x), x.shape[1], x.shape[1], dtype=torch.bool)
        for block in decoder.stack.blocks:
            x = attend(block, x + decoder.pos(place), everywhere)
        finer = scales[1][0]
        gap, near = (
            torch.cdist(finer, place, compute_mode="donot_use_mm_for_euclid_dist")
            .square()
            .topk(3, largest=False)
        )
        weight = 1 / (gap + 1e-8)
        weight = weight / weight.sum(2, keepdim=True)
        carried = torch.stack(
            [(t[n] * w.unsqueeze(2)).sum(1) for t, n, w in zip(x, near, weight, strict=True)]
        )
        p: Any = decoder.propagate
        y = torch.cat([skip, carried], dim=2).transpose(1, 2)
        y = functional.gelu(batch_norm(p.fuse_norm, conv(p.fuse, y)))
        h = functional.gelu(batch_norm(p.unit1_norm, conv(p.unit1, y)))
        y = functional.gelu(batch_norm(p.unit2_norm, conv(p.unit2, h)) + y).transpose(1, 2)
        everywhere = torch.ones(len(y), y.shape[1], y.shape[1], dtype=torch.bool)
        for block in decoder.middle_stack.blocks:
            y = attend(block, y + decoder.middle_pos(finer), everywhere)
        y = decoder.norm(y)
        errors = []
        for cloud, row in enumerate(seen[1]):
            hidden = torch.ones(len(finer[cloud]), dtype=torch.bool)
            hidden[row] = False
            predicted = decoder.head(y[cloud, hidden]).to(points.dtype)
            predicted = predicted.view(int(hidden.sum()), -1, 3)
            gap = torch.cdist(
                predicted, scales[1][2][cloud, hidden], compute_mode="donot_use_mm_for_euclid_dist"
            ).square()
            errors.append(gap.amin(2).mean(1) + gap.amin(1).mean(1))
        return torch.cat(errors).mean()


def batch_norm(norm: nn.BatchNorm1d, x: Tensor) -> Tensor:
    """Of (B, C, n) by torch's own function, with the state of ``norm``, which takes rows alone."""
    if norm.training:
        norm.num_batches_tracked.add_(1)
    return functional.batch_norm(
        x,
        norm.running_mean,
        norm.running_var,
        norm.weight,
        norm.bias,
        norm.training,
        norm.momentum,
        norm.eps,
    )
