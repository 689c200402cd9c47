"""Pre-training steps of Point-MAE written down plainly, the way research code does it.

Every actor groups the clouds for itself, the mini-PointNet is made of convolutions on (patches,
channels, points) with the patch's maximum copied to every point, masks are drawn in a loop over the
clouds, the EMA teacher is a whole copy whose reconstruction decoder runs for nothing, and
optimiser, clipping and EMA go from tensor to tensor. It begins with the weights of one of our
methods, has its blocks and its point operators, and must reach the same losses:
``benchmarks/training.py`` times it against that method.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.plain_m2ae import PlainM2AE, batch_norm, embed
from sa3d.layers.patches import group_points
from sa3d.layers.transformer import Attention
from sa3d.losses import feature_distance, patch_chamfer, ranking_loss
from sa3d.methods.base import Method


def plainly(module: nn.Module) -> nn.Module:
    """With the attention of research code."""
    for layer in module.modules():
        if isinstance(layer, Attention):
            layer.__class__ = PlainAttention
    return module


class PlainAttention(Attention):
    """Attention in products of torch, each of which sorts what it needs by heads."""

    def forward(self, x: Tensor, attend: Tensor | None = None, last: int | None = None) -> Tensor:
        """(B, n, C) -> (B, n, C)."""
        assert attend is None
        assert last is None
        batch, length, dim = x.shape
        parts = self.qkv(x).reshape(batch, length, 3, self.heads, dim // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        weights = ((q @ k.transpose(-2, -1)) * (dim // self.heads) ** -0.5).softmax(dim=-1)
        joined: Tensor = self.proj((weights @ v).transpose(1, 2).reshape(batch, length, dim))
        return joined


class PlainMAE(nn.Module):
    """Point-MAE with random masks.

    Args:
        method: ours; its weights are copied.
        masked: M.
    """

    def __init__(self, method: Method, masked: int) -> None:
        super().__init__()
        self.student: Any = plainly(copy.deepcopy(method.backbone))
        self.masked = masked
        self.settings: Any = getattr(method, "config", None)

    def tokens(self, model: Any, points: Tensor, flags: Tensor | None) -> tuple[Tensor, Any]:
        """Tokens of the visible patches, and the patches of all."""
        groups = group_points(points, model.num_tokens, model.group_size)
        tokens, centers = embed(model.encoder.embed, groups.patches), groups.centers
        if flags is not None:
            batch, _, dim = tokens.shape
            tokens, centers = (
                tokens[~flags].view(batch, -1, dim),
                centers[~flags].view(batch, -1, 3),
            )
        x, pos = tokens, model.encoder.pos(centers)
        for block in model.encoder.stack.blocks:
            x = block(x + pos)
        return model.encoder.norm(x), groups

    def decoded(self, model: Any, visible: Tensor, centers: Tensor, flags: Tensor) -> Tensor:
        """(B, G, C) decoder features, visible patches first."""
        batch = len(visible)
        hidden = model.decoder.mask_token.expand(batch, int(flags[0].sum()), -1)
        seen = model.decoder.pos(centers[~flags].view(batch, -1, 3))
        unseen = model.decoder.pos(centers[flags].view(batch, -1, 3))
        x, pos = torch.cat([visible, hidden], dim=1), torch.cat([seen, unseen], dim=1)
        for block in model.decoder.stack.blocks:
            x = block(x + pos)
        features: Tensor = model.decoder.norm(x)
        return features

    def draw(self, batch: int, groups: int, scores: Tensor | None, hard: int) -> Tensor:
        """(B, G) bool by a loop over the clouds."""
        flags = torch.zeros(batch, groups, dtype=torch.bool)
        for cloud in range(batch):
            first = torch.zeros(0, dtype=torch.int64)
            if scores is not None:
                first = scores[cloud].argsort(descending=True)[:hard]
            left = torch.ones(groups, dtype=torch.bool)
            left[first] = False
            others = left.nonzero()[:, 0]
            others = others[torch.randperm(len(others))[: self.masked - len(first)]]
            flags[cloud, torch.cat([first, others])] = True
        return flags

    def loss(self, points: Tensor, flags: Tensor | None = None) -> Tensor:
        """The loss; ``flags``: the mask, instead of one of its own."""
        drawn = self.draw(len(points), self.student.num_tokens, None, 0)
        flags = drawn if flags is None else flags
        visible, groups = self.tokens(self.student, points, flags)
        features = self.decoded(self.student, visible, groups.centers, flags)
        rebuilt = self.student.decoder.points(features[:, -self.masked :])
        return patch_chamfer(rebuilt, groups.patches[flags].view_as(rebuilt)).mean()

    def after(self) -> None:
        """Nothing to average."""


class PlainScales(PlainMAE):
    """Point-M2AE with random masks, on our patches, as the others have our point operators."""

    def loss(self, points: Tensor, flags: Tensor | None = None) -> Tensor:
        """See the base class."""
        drawn = self.draw(len(points), self.student.num_tokens, None, 0)
        return _OnOurPatches(self.student).loss(points, drawn if flags is None else flags)


class _OnOurPatches(PlainM2AE):
    def groups(self, points: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        return [(s.centers, s.index, s.patches) for s in self.model.group(points).scales]


class PlainSA3DF(PlainMAE):
    """SA3DF at the end of its curriculum."""

    def __init__(self, method: Any, masked: int, hard: int) -> None:
        super().__init__(method, masked)
        self.hard = hard
        self.gc: Any = plainly(copy.deepcopy(method.gc))
        self.feature_norm = copy.deepcopy(method.feature_norm)
        average = method.teacher.average
        ema: Any = copy.deepcopy(method.backbone)
        ema.encoder, ema.decoder.pos = copy.deepcopy(average.encoder), copy.deepcopy(average.pos)
        self.ema: Any = plainly(ema)
        self.ema_gc: Any = plainly(copy.deepcopy(average.gc))
        self.known: Any = plainly(copy.deepcopy(method.knowledge_teacher))
        self.student.decoder.head.requires_grad_(False)  # no loss reaches it here
        for teacher in (self.ema, self.ema_gc, self.known):
            teacher.requires_grad_(False)

    def train(self, mode: bool = True) -> PlainSA3DF:
        super().train(mode)
        for teacher in (self.ema, self.ema_gc, self.known):
            teacher.eval()
        return self

    def scores(self, gc: Any, x: Tensor, pos: Tensor) -> Tensor:
        """(B, G) of a predictor whose mask tokens, if any, are in ``x``."""
        for block in gc.stack.blocks:
            x = block(x + pos)
        rows = gc.norm(x).float().reshape(-1, x.shape[-1])
        with torch.autocast("cpu", enabled=False):
            rows = functional.leaky_relu(batch_norm(gc.hidden_norm, gc.hidden(rows)), 0.2)
            return gc.out(rows).mean(1).view(x.shape[:2])

    def loss(self, points: Tensor, flags: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            everything, groups = self.tokens(self.ema, points, None)
            found = self.scores(self.ema_gc, everything, self.ema.decoder.pos(groups.centers))
            none = torch.zeros_like(found, dtype=torch.bool)
            self.ema.decoder.points(self.decoded(self.ema, everything, groups.centers, none))
        drawn = self.draw(len(points), self.student.num_tokens, found, self.hard)
        flags = drawn if flags is None else flags
        batch = len(points)
        visible, groups = self.tokens(self.student, points, flags)
        centers = groups.centers
        seen, unseen = centers[~flags].view(batch, -1, 3), centers[flags].view(batch, -1, 3)
        features = self.feature_norm(
            self.decoded(self.student, visible, centers, flags)[:, -self.masked :]
        )
        pos = torch.cat([self.student.decoder.pos(seen), self.student.decoder.pos(unseen)], dim=1)
        hidden = self.gc.mask_token.expand(batch, self.masked, -1)
        scores = self.scores(self.gc, torch.cat([visible, hidden], dim=1), pos)[:, -self.masked :]
        with torch.no_grad():
            known, groups = self.tokens(self.known, points, None)
            target = self.known.decode_features(known, groups.centers)
            target = target[flags].view(batch, self.masked, -1, 3)
            own = self.known.decode_features(features.detach(), unseen)
            point = patch_chamfer(own, target)
        feature = feature_distance(features, known[flags].view(batch, self.masked, -1))
        ranking = ranking_loss(scores, feature + point)
        settings = self.settings
        return (
            settings.point_weight * point.mean()
            + settings.gc_weight * ranking
            + settings.feature_weight * feature.mean()
        )

    @torch.no_grad()
    def after(self) -> None:
        """The EMA, tensor by tensor."""
        decay = self.settings.ema.end
        pairs = ((self.ema, self.student), (self.ema_gc, self.gc))
        for slow, fast in pairs:
            for average, value in zip(slow.parameters(), fast.parameters(), strict=True):
                average.data.mul_(decay).add_(value.data, alpha=1 - decay)
            for average, value in zip(slow.buffers(), fast.buffers(), strict=True):
                if average.is_floating_point():
                    average.data.mul_(decay).add_(value.data, alpha=1 - decay)
                else:
                    average.copy_(value)
