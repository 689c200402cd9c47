"""Weights of teachers in the precision that they compute in."""

from __future__ import annotations

import pytest
import torch
from casts import Casts, bf16
from torch import nn

from sa3d.layers.converted import Converted, Float32Linear


class Exact(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = Float32Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", enabled=False):
            found: torch.Tensor = self.last(x.float())
        return found


@pytest.fixture
def module() -> nn.Sequential:
    torch.manual_seed(0)
    found = nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6), nn.BatchNorm1d(6), Exact())
    return found.eval().requires_grad_(False)


def test_outputs_are_those_of_autocast_bit_for_bit(module):
    form, x = Converted(module), torch.randn(5, 3)
    with bf16():
        assert torch.equal(form()(x), module(x))
        assert form() is not module


def test_weights_are_converted_once_and_not_at_every_call(module):
    form, x = Converted(module), torch.randn(5, 3)
    with bf16():
        form()(x)
        with Casts() as casts:
            form()(x)
    assert casts.shapes == {(5, 3): 1, (5, 6): 1}  # the input, and what the last layer reads


def test_outside_of_autocast_it_is_the_module_itself(module):
    assert Converted(module)() is module


def test_all_else_is_shared_with_the_module(module):
    form = Converted(module)
    with bf16():
        half = form()
    assert half[0].weight.dtype == half[0].bias.dtype == torch.bfloat16
    assert half[1].weight is module[1].weight
    assert half[2].running_mean is module[2].running_mean
    assert half[3].last.weight is module[3].last.weight


@pytest.mark.parametrize("how", ["refresh", "load", "in place"])
def test_it_follows_weights_that_change(module, how):
    form, x = Converted(module), torch.randn(5, 3)
    with bf16():
        before = form()(x)
    if how == "load":
        module.load_state_dict({k: v * 2 for k, v in module.state_dict().items()})
    else:
        with torch.no_grad():
            for weight in module.parameters():
                weight.mul_(2)
    if how == "refresh":
        form.refresh()
    with bf16():
        after = form()(x)
        assert torch.equal(after, module(x))
    assert not torch.equal(after, before)


def test_a_refresh_writes_into_the_same_memory(module):
    """A recorded step reads that memory and runs no Python."""
    form = Converted(module)
    with bf16():
        weight = form()[0].weight
    with torch.no_grad():
        module[0].weight.fill_(3)
    form.refresh()
    assert (weight == 3).all()


def test_a_refresh_before_the_first_use_makes_nothing(module):
    form = Converted(module)
    form.refresh()
    with bf16():
        assert torch.equal(form()(torch.ones(2, 3)), module(torch.ones(2, 3)))
