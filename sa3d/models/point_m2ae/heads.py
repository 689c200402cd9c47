"""Point-M2AE's models for downstream tasks (arXiv 2205.14401, section 3.4, and its code)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sa3d.layers.heads import (
    HIDDEN,
    LABEL,
    LOCAL,
    CategoryEmbed,
    ClassificationHead,
    FeaturePropagation,
    PartHead,
    in_proportion,
)
from sa3d.models.downstream import Classifier, Segmenter
from sa3d.models.point_m2ae.backbone import PointM2AEEncoder, PointM2AETrunk
from sa3d.models.point_m2ae.scales import group_scales
from sa3d.models.point_m2ae.settings import PointM2AEConfig

PART_WIDTHS = (1024, 512, 256)


def trunk_layer_ids(trunk: PointM2AETrunk, prefix: str) -> dict[str, int]:
    """Layer of every parameter for layer-wise learning-rate decay, by ``prefix`` + name.

    Blocks are counted through all scales, from 1; what makes the tokens of a scale has the layer
    of the last block before it.

    The published code decays nothing here, as no name of this model matches its rule.
    """
    ids = {}
    for name, _ in trunk.named_parameters():
        part = name.split(".")
        before = sum(trunk.depths[: int(part[1])])
        ids[prefix + name] = before + int(part[3]) + 1 if part[0] == "stacks" else before
    return ids


class PointM2AEClassifier(Classifier):
    """Point-M2AE's classifier: tokens attend within a radius, mean and maximum of the coarsest.

    Source: Point-M2AE (arXiv 2205.14401), section 3.4, and its code: `sum` is what it has for
    ModelNet40 (12 830 056 parameters for 40 classes), `concat` for ScanObjectNN (12 921 935 for
    15). The code leaves token 0 out of the maximum there, by a slip; `concat` counts it,
    `concat_skip_first` does as the code does, for weights that were trained so. 249 tensors.
    """

    encoder: PointM2AETrunk
    encoder_weights = "backbone.encoder.trunk."  # the norms of pre-training are left behind

    def __init__(
        self,
        config: PointM2AEConfig,
        num_classes: int,
        dropout: float,
        pooling: str = "sum",
    ) -> None:
        super().__init__()
        self.groups, self.group_sizes = config.groups, config.group_sizes
        self.concat, self.first = pooling != "sum", int(pooling == "concat_skip_first")
        self.encoder = PointM2AETrunk(config)
        dim = config.dims[-1]
        self.norm = nn.LayerNorm(dim)
        self.head = ClassificationHead((2 if self.concat else 1) * dim, num_classes, dropout)
        self.num_layers = sum(config.depths)

    def forward(self, points: Tensor) -> Tensor:
        """See the base class."""
        groups = group_scales(points, self.groups, self.group_sizes)
        tokens = self.norm(self.encoder(groups, local=True)[-1])
        mean, largest = tokens.mean(1), tokens[:, self.first :].amax(1)
        feature = torch.cat([mean, largest], dim=-1) if self.concat else mean + largest
        logits: Tensor = self.head(feature)
        return logits.float()

    def no_weight_decay(self) -> set[str]:
        """There are no tokens."""
        return set()

    def early_layers(self) -> dict[str, int]:
        """See the base class."""
        return trunk_layer_ids(self.encoder, "encoder.")


class PointM2AESegmenter(Segmenter):
    """Point-M2AE's: every scale carried to the points by its own propagation; tokens attend
    within the radius of their scale.

    Source: Point-M2AE (arXiv 2205.14401), section 3.4, and its code. 308 tensors and 25 474 354
    parameters at full width, for 50 parts of 16 categories; a narrower encoder gets a narrower
    head.
    """

    encoder: PointM2AEEncoder

    def __init__(
        self,
        config: PointM2AEConfig,
        num_parts: int,
        num_categories: int,
        dropout: float,
    ) -> None:
        super().__init__()
        dims = config.dims
        self.groups, self.group_sizes = config.groups, config.group_sizes
        self.num_layers = sum(config.depths)
        self.encoder = PointM2AEEncoder(config)
        self.category = CategoryEmbed(num_categories)
        hidden, local, *widths = (
            in_proportion(width, dims[-1]) for width in (HIDDEN, LOCAL, *PART_WIDTHS)
        )
        self.propagate = nn.ModuleList(FeaturePropagation(dim, hidden, local) for dim in dims)
        every = len(dims) * local
        self.head = PartHead(every, every + LABEL, widths, num_parts, dropout, whole_first=True)

    def forward(self, points: Tensor, category: Tensor) -> Tensor:
        """See the base class."""
        label = self.category(category)
        groups = group_scales(points, self.groups, self.group_sizes)
        found = []
        for number, tokens in enumerate(self.encoder.trunk(groups, local=True)):
            centers, tokens = groups.scales[number].centers, self.encoder.norms[number](tokens)
            found.append(self.propagate[number](points, centers, tokens))
        local = torch.cat(found, dim=2)
        whole = torch.cat([local.amax(1) + local.mean(1), label], dim=1)
        logits: Tensor = self.head(local, whole)
        return logits

    def early_layers(self) -> dict[str, int]:
        """See the base class."""
        return trunk_layer_ids(self.encoder.trunk, "encoder.trunk.")
