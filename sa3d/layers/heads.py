"""Layers of the models for downstream tasks: heads and feature propagation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import point_ops
from torch import Tensor, nn
from torch.nn import functional

from sa3d.layers.propagation import RowNorm

LABEL = 64  # width of the category's embedding
HIDDEN, LOCAL = 1536, 1024  # of each propagation to the points, see in_proportion()


def in_proportion(width: int, dim: int) -> int:
    """A published layer's width, for an encoder of width ``dim``: the published ones have 384.

    Per point the layers after the encoder cost far more than the encoder itself: at full width
    beside a narrow encoder they would be nearly all of the model. A multiple of 8, 64 or more, so
    that tens of parts can be told apart.
    """
    return max(64, 8 * round(width * dim / 384 / 8))


class ClassificationHead(nn.Sequential):
    """Feature -> 256 -> 256 -> classes, with BatchNorm, ReLU and dropout (Point-MAE code)."""

    def __init__(self, features: int, num_classes: int, dropout: float) -> None:
        super().__init__(
            nn.Linear(features, 256),
            nn.BatchNorm1d(256),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(256, 256),
            nn.BatchNorm1d(256),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(256, num_classes),
        )


class CategoryEmbed(nn.Module):
    """One-hot category -> 64, without bias; BatchNorm over the clouds, LeakyReLU 0.2."""

    def __init__(self, num_categories: int) -> None:
        super().__init__()
        self.lift = nn.Linear(num_categories, LABEL, bias=False)
        self.norm = nn.BatchNorm1d(LABEL)

    def forward(self, category: Tensor) -> Tensor:
        """(B,) int64 -> (B, 64).

        Raises:
            ValueError: a category out of range.
        """
        count = self.lift.in_features
        # an index out of range would kill the process's CUDA context; looking costs one wait
        if bool(((category < 0) | (category >= count)).any()):
            raise ValueError(
                f"categories {sorted(set(category.tolist()))}: this model knows 0 to {count - 1}"
            )
        one_hot = functional.one_hot(category, count).to(self.lift.weight.dtype)
        return functional.leaky_relu(self.norm(self.lift(one_hot)), 0.2)


class FeaturePropagation(nn.Module):
    """PointNet++'s: a point, beside the features of its three nearest centres weighted by
    1 / d^2, then two layers with BatchNorm and ReLU (section 3.4)."""

    def __init__(self, coarse: int, hidden: int, dim: int) -> None:
        super().__init__()
        self.lift = nn.Linear(3 + coarse, hidden)  # of [point, interpolated]
        self.lift_norm = RowNorm(hidden)
        self.out = nn.Linear(hidden, dim)
        self.out_norm = RowNorm(dim)

    def forward(self, points: Tensor, centers: Tensor, tokens: Tensor) -> Tensor:
        """(B, N, dim) at ``points`` (B, N, 3), from tokens (B, m, coarse) at centers (B, m, 3)."""
        points = points.float()  # as the centres are
        weight_point, weight_token = self.lift.weight.tensor_split([3], dim=1)
        # interpolation is linear too, so it may come second: the m tokens are lifted, not N points
        lifted = functional.linear(tokens, weight_token)
        carried = point_ops.interpolate(points, centers, lifted, k=min(3, centers.shape[1]))
        x = functional.linear(points, weight_point, self.lift.bias) + carried
        return self.out_norm.rectified(self.out(self.lift_norm.rectified(x)))


class PartHead(nn.Module):
    """Features of a point beside those of its whole cloud -> widths -> part logits.

    BatchNorm and ReLU after every layer but the last, dropout after the first.

    Args:
        local: channels of a point.
        whole: channels of a cloud.
        widths: of the layers.
        num_parts: outputs.
        dropout: its rate.
        whole_first: which of the two the weight of the first layer begins with.
    """

    def __init__(
        self,
        local: int,
        whole: int,
        widths: Sequence[int],
        num_parts: int,
        dropout: float,
        whole_first: bool,
    ) -> None:
        super().__init__()
        self.whole_first = whole_first
        self.first = nn.Linear(local + whole, widths[0])
        layers: list[nn.Module] = [RowNorm(widths[0]), nn.ReLU(), nn.Dropout(dropout)]
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), RowNorm(after), nn.ReLU()]
        self.rest = nn.Sequential(*layers, nn.Linear(widths[-1], num_parts))

    def forward(self, local: Tensor, whole: Tensor) -> Tensor:
        """(B, N, local) and (B, whole) -> (B, N, parts) float32."""
        leading = whole if self.whole_first else local
        weights = self.first.weight.tensor_split([leading.shape[-1]], dim=1)
        weight_whole, weight_local = weights if self.whole_first else weights[::-1]
        # what is the same at all points of a cloud is multiplied once, as in PatchEmbed
        once = functional.linear(whole, weight_whole, self.first.bias)
        x = functional.linear(local, weight_local)
        shared: Tensor | None = once
        for layer in self.rest:
            if isinstance(layer, RowNorm):  # with the ReLU that follows it
                x = layer.rectified(x, shared)
                shared = None
            elif not isinstance(layer, nn.ReLU):
                x = layer(x)
        return x.float()
