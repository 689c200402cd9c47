"""What a mask is, and what every mask strategy must offer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor

from sa3d.masking.settings import MaskConfig


class StepContext(Protocol):
    """What masking reads of a training step's :class:`sa3d.engine.types.Progress`."""

    @property
    def epoch(self) -> int:
        """0-based."""

    @property
    def epochs(self) -> int:
        """Epochs of the whole run."""

    @property
    def generator(self) -> torch.Generator:
        """On the batch's device; all randomness of masking comes from it."""


def take(values: Tensor, index: Tensor) -> Tensor:
    """Rows of each sample by index: ``values[b, index[b]]``.

    One flat ``index_select``: rows are copied whole, and neither direction asks the device
    for a count, as a boolean mask would.

    Args:
        values: (B, G, ...).
        index: (B, n) int64.

    Returns:
        (B, n, ...).
    """
    rows = values.flatten(0, 1).index_select(0, flat_index(index, values.shape[1]))
    return rows.view(*index.shape, *values.shape[2:])


def flat_index(index: Tensor, groups: int) -> Tensor:
    """(B, n) numbers of patches of each cloud as (B n) numbers among the B G patches of all."""
    offset = torch.arange(0, len(index) * groups, groups, device=index.device).unsqueeze(1)
    return (index + offset).flatten()


def largest(keys: Tensor, count: int) -> Tensor:
    """(B, G) bool, True at the ``count`` largest of each row of ``keys`` (B, G)."""
    flags = torch.zeros_like(keys, dtype=torch.bool)
    return flags.scatter_(1, keys.topk(count, dim=1, sorted=False).indices, True)


class Mask(NamedTuple):
    """A mask with the same number M of masked patches in every sample, and its index form."""

    flags: Tensor  # (B, G) bool, True = masked
    visible: Tensor  # (B, V) int64, ascending
    masked: Tensor  # (B, M) int64, ascending

    @classmethod
    def of(cls, flags: Tensor, masked: int) -> Mask:
        """From (B, G) flags with exactly ``masked`` True in every row.

        The count is given, not read from the tensor: reading would stop the host.
        """
        order = torch.argsort(flags.byte(), dim=1, stable=True)  # False first, each ascending
        split = flags.shape[1] - masked
        return cls(flags, order[:, :split], order[:, split:])

    @property
    def order(self) -> Tensor:
        """(B, G) int64: all patches, visible ones first. The order of decoder tokens."""
        return torch.cat([self.visible, self.masked], dim=1)


class MaskStrategy(ABC):
    """Chooses exactly :attr:`masked` patches of every cloud."""

    def __init__(self, masked: int) -> None:
        self.masked = masked

    @classmethod
    def from_config(cls, config: MaskConfig, masked: int) -> Self:
        """The strategy that masks ``masked`` patches a cloud. Override to read more settings."""
        return cls(masked)

    def hard_budget(self, epoch: int, epochs: int) -> int:
        """How many patches of the mask are chosen by their score in this 0-based epoch."""
        return 0

    def needs_scores(self, epoch: int, epochs: int) -> bool:
        """Whether scores must be computed in this epoch at all."""
        return self.hard_budget(epoch, epochs) > 0

    @abstractmethod
    def __call__(self, centers: Tensor, scores: Tensor | None, progress: StepContext) -> Tensor:
        """The mask.

        Args:
            centers: (B, G, 3) patch centres.
            scores: (B, G) predicted geometric complexity, large = hard; None unless
                :meth:`needs_scores`.
            progress: epoch, and the generator that all randomness must come from.

        Returns:
            (B, G) bool, exactly :attr:`masked` True in each row.
        """
