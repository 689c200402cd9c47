"""Models as modules that take whole clouds: choosing points, scaling, patches and the network in one.

What they compute is what :class:`sa3d.data.preprocessing.Preprocessing` and the model compute, in a
form that ``torch.export`` can follow for any number of clouds and of points.
"""

from __future__ import annotations

import copy

import point_ops
import torch
from torch import Tensor, nn
from torch.nn import functional

from sa3d.data.preprocessing import Preprocessing, unit_sphere
from sa3d.layers.heads import CategoryEmbed
from sa3d.models.backbone import Backbone
from sa3d.models.downstream import Classifier, Segmenter


class _Prepared(nn.Module):
    """Clouds (B, n, 3) to what a model sees, as :meth:`Preprocessing.batch` makes it."""

    order: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.count, self.normalisation = preprocessing.points, preprocessing.normalisation
        self.register_buffer("order", torch.arange(self.count))

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, 3), and the rows (B, N) int64 of the cloud that they are."""
        if self.normalisation == "cloud":
            points = unit_sphere(points)
        larger = points.shape[1] > self.count
        index = torch.cond(larger, self._farthest, self._repeated, (points,))
        chosen = point_ops.gather(points, index)
        return (unit_sphere(chosen) if self.normalisation == "subsample" else chosen), index

    def _farthest(self, points: Tensor) -> Tensor:
        start = torch.zeros(points.shape[0], dtype=torch.int64)
        # the operator itself: its checks in Python would be asked of all clouds, small ones too
        index: Tensor = torch.ops.point_ops.fps(points, start, None, self.count)
        return index

    def _repeated(self, points: Tensor) -> Tensor:
        # a number of points that is a tensor: as a plain one the ONNX exporter does not follow it
        many = torch.full((1,), points.shape[1], dtype=torch.int64)
        index = self.order.remainder(many)
        return index.expand(points.shape[0], self.count).clone()


class EncoderGraph(nn.Module):
    """Clouds (B, n, 3) to features (B, D)."""

    def __init__(self, backbone: Backbone, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.prepare, self.backbone = _Prepared(preprocessing), backbone

    def forward(self, points: Tensor) -> Tensor:
        """Features."""
        return self.backbone.features(self.prepare(points)[0])


class ClassifierGraph(nn.Module):
    """Clouds (B, n, 3) to class logits (B, classes)."""

    def __init__(self, classifier: Classifier, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.prepare, self.classifier = _Prepared(preprocessing), classifier

    def forward(self, points: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.classifier(self.prepare(points)[0])
        return logits


class SegmenterGraph(nn.Module):
    """Clouds (B, n, 3) and their categories (B,) to part logits (B, N, parts) of the points that the
    model sees, and which rows of the cloud those are, (B, N)."""

    def __init__(self, segmenter: Segmenter, preprocessing: Preprocessing) -> None:
        super().__init__()
        # a copy: the model that was given stays what it is
        self.prepare, self.segmenter = _Prepared(preprocessing), copy.deepcopy(segmenter)
        embed = segmenter.category
        assert isinstance(embed, CategoryEmbed)
        self.segmenter.category = _Category(embed)

    def forward(self, points: Tensor, category: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and rows."""
        seen, index = self.prepare(points)
        return self.segmenter(seen, category), index


class _Category(nn.Module):
    """:class:`CategoryEmbed` without its look at the values, which no graph can follow: a category out
    of range is refused by the row that it picks."""

    def __init__(self, embed: CategoryEmbed) -> None:
        super().__init__()
        self.lift, self.norm = embed.lift, embed.norm

    def forward(self, category: Tensor) -> Tensor:
        """(B,) int64 -> (B, 64)."""
        # a one-hot row times the weight is a row of its transpose
        lifted = self.lift.weight.t().index_select(0, category)
        return functional.leaky_relu(self.norm(lifted), 0.2)
