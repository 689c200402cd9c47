"""Weights of modules that are not trained, kept in the precision that they compute in.

Autocast converts the weights of a linear layer at every call, unless they want a gradient. A
teacher would do so at every step, with weights that are the same or that change once a step.
"""

from __future__ import annotations

import copy
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


class Float32Linear(nn.Linear):
    """A linear layer whose caller runs it in float32 whatever autocast says."""


def weights_of(module: nn.Module) -> list[nn.Parameter]:
    """Weights and biases of the linear layers, which are what autocast converts."""
    return [
        weight
        for layer in module.modules()
        if isinstance(layer, nn.Linear) and not isinstance(layer, Float32Linear)
        for weight in layer.parameters(recurse=False)
    ]


def convert(module: nn.Module, dtype: torch.dtype) -> None:
    """Convert the linear layers of ``module`` for good; it has to be run by autocast from then on.

    For weights that nothing will change: what they were before is lost.
    """
    for weight in weights_of(module):
        weight.data = weight.data.to(dtype)


class Converted(Generic[M]):
    """A second form of ``module`` for autocast, whose linear layers hold converted weights.

    For weights that change. Everything else (norms, their statistics, tokens) is shared with
    ``module``, which has to stay in ``eval()`` or in ``train()``: the form keeps its mode. Not a
    module itself: it has no place in a state.
    """

    def __init__(self, module: M) -> None:
        self._module = module
        self._form: M | None = None
        self._weights: list[Tensor] = []
        self._copies: list[Tensor] = []
        self._versions: list[int] = []

    def __call__(self) -> M:
        """``module`` outside of autocast, else its converted form. No gradient reaches weights."""
        device = next(self._module.parameters()).device
        if not torch.is_autocast_enabled(device.type):
            return self._module
        dtype = torch.get_autocast_dtype(device.type)
        if not (
            self._copies and self._copies[0].device == device and self._copies[0].dtype == dtype
        ):
            self._make(dtype)
        elif self._versions != [weight._version for weight in self._weights]:
            self.refresh()  # they were loaded, or changed by somebody who did not say so
        return cast(M, self._form)

    @torch.no_grad()
    def refresh(self) -> None:
        """Convert again: the weights have changed.

        :meth:`__call__` sees that too, but not in a step that repeats a recorded one.
        """
        if self._copies:
            torch._foreach_copy_(self._copies, self._weights)
            self._versions = [weight._version for weight in self._weights]

    def _make(self, dtype: torch.dtype) -> None:
        self._weights = [*weights_of(self._module)]
        copies = [
            nn.Parameter(weight.detach().to(dtype), requires_grad=False) for weight in self._weights
        ]
        self._copies = [*copies]
        self._versions = [weight._version for weight in self._weights]
        known: dict[int, object] = {
            id(tensor): tensor for tensor in (*self._module.parameters(), *self._module.buffers())
        }
        known |= {id(old): new for old, new in zip(self._weights, copies, strict=True)}
        self._form = copy.deepcopy(self._module, known)
