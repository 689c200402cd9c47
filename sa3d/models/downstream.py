"""Models that tasks train on a pre-trained encoder: what they share, and their parts.

Each backbone has its own beside it (``point_mae_heads``, ``point_m2ae_heads``), named by the
registry: pre-training imports none of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise

import point_ops
from torch import Tensor, nn
from torch.nn import functional

from sa3d.layers.propagation import RowNorm
from sa3d.models.loading import LoadReport, load_prefixed

LABEL = 64  # width of the category's embedding
HIDDEN, LOCAL = 1536, 1024  # of each propagation to the points


class Downstream(nn.Module, ABC):
    """An encoder with pre-trained weights and whatever a task puts on it."""

    encoder: nn.Module
    encoder_weights = "backbone.encoder."  # where an exported pre-training state has them
    num_layers: int  # depth of layer-wise learning-rate decay: scale decay**(num_layers - id)

    @abstractmethod
    def no_weight_decay(self) -> set[str]:
        """Tokens: parameters that weight decay spares although they are not 1-D."""

    @abstractmethod
    def early_layers(self) -> dict[str, int]:
        """Layer of every parameter up to the last block, by name."""

    def layer_ids(self) -> dict[str, int]:
        """Layer of every parameter, 0 (input) to :attr:`num_layers` (scale 1), where all that
        follows the last block is."""
        early = self.early_layers()
        return {name: early.get(name, self.num_layers) for name, _ in self.named_parameters()}

    def load_encoder(self, state: Mapping[str, Tensor]) -> LoadReport:
        """Take the encoder of an exported pre-training state.

        Every tensor of the encoder must be there and nothing else under that name; the rest
        of the model starts fresh, the rest of the state is not needed.

        Raises:
            CheckpointError: the encoder is not the one that this state was trained with.
        """
        prefix = self.encoder_weights
        loaded = tuple(f"encoder.{name}" for name in load_prefixed(self.encoder, state, prefix))
        fresh = tuple(name for name in self.state_dict() if not name.startswith("encoder."))
        return LoadReport(loaded, fresh, tuple(k for k in state if not k.startswith(prefix)))


class Classifier(Downstream):
    """Points to class logits."""

    @abstractmethod
    def forward(self, points: Tensor) -> Tensor:
        """(B, N, 3) -> (B, classes) logits."""


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


class Segmenter(Downstream):
    """Points and the category of their cloud to part logits."""

    @abstractmethod
    def forward(self, points: Tensor, category: Tensor) -> Tensor:
        """Logits of every part, those of other categories included.

        Args:
            points: (B, N, 3).
            category: (B,) int64.

        Returns:
            (B, N, parts) float32.

        Raises:
            ValueError: a category that the model has not, or fewer points than patches or than
                points of a patch.
        """

    def no_weight_decay(self) -> set[str]:
        """There are no tokens."""
        return set()


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
        x = functional.relu(self.lift_norm(x))
        return functional.relu(self.out_norm(self.out(x)))


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
        mixed = functional.linear(local, weight_local) + once.unsqueeze(1)
        logits: Tensor = self.rest(mixed)
        return logits.float()
