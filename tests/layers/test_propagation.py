"""Normalisation and ReLU of rows in one pass, against torch's modules one after the other."""

import pytest
import torch
from torch import nn

from sa3d.layers.propagation import RowNorm


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_rectified_is_the_sum_normalised_and_cut_off(training, shared):
    torch.manual_seed(0)
    norm, plain = RowNorm(24).double().train(training), nn.BatchNorm1d(24).double().train(training)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    norm.running_mean.normal_()
    plain.load_state_dict(norm.state_dict())
    x = torch.randn(3, 50, 24, dtype=torch.double, requires_grad=True)
    once = torch.randn(3, 24, dtype=torch.double, requires_grad=True)
    asked = [x, once] if shared else [x]
    found = norm.rectified(*asked)
    rows = (x + once.unsqueeze(1) if shared else x).flatten(0, 1)
    wanted = plain(rows).relu().view_as(x)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(norm.running_var, plain.running_var)
    weights = torch.randn_like(x)
    own = torch.autograd.grad((found * weights).sum(), [*asked, norm.weight, norm.bias])
    other = torch.autograd.grad((wanted * weights).sum(), [*asked, plain.weight, plain.bias])
    for one, two in zip(own, other, strict=True):
        torch.testing.assert_close(one, two)
