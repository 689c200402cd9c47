"""Stacks against a transcription of the block's formula, and the two forms of attention."""

import point_ops
import pytest
import timm.models.vision_transformer
import torch
from torch.nn import functional as F

from sa3d.layers import transformer
from sa3d.layers.transformer import Attention, Block, Stack, drop_rates, init_weights


def layer_norm(x: torch.Tensor, norm: torch.nn.LayerNorm) -> torch.Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight + (
        norm.bias
    )


def attention(x: torch.Tensor, weights: Attention, heads: int) -> torch.Tensor:
    """One head at a time; rows of the fused weight are q, k, v, heads contiguous in each."""
    dim = x.shape[-1]
    size = dim // heads
    q, k, v = weights.qkv.weight.split(dim)
    outputs = []
    for h in range(heads):
        rows = slice(h * size, (h + 1) * size)
        qh, kh, vh = x @ q[rows].T, x @ k[rows].T, x @ v[rows].T
        outputs.append(torch.softmax(qh @ kh.transpose(1, 2) / size**0.5, -1) @ vh)
    return torch.cat(outputs, -1) @ weights.proj.weight.T + weights.proj.bias


def test_stack_is_pre_norm_blocks_with_positions_added_to_each():
    torch.manual_seed(0)
    stack = Stack(24, drop_rates(0.1, 3), 3, init="trunc_normal").double().eval()
    for norm in (m for m in stack.modules() if isinstance(m, torch.nn.LayerNorm)):
        torch.nn.init.normal_(norm.weight, 1, 0.2)
        torch.nn.init.normal_(norm.bias, 0, 0.2)
    x, pos = torch.randn(2, 2, 5, 24, dtype=torch.float64)
    expected = x
    for block in stack.blocks:
        expected = expected + pos
        expected = expected + attention(layer_norm(expected, block.norm1), block.attn, 3)
        hidden = layer_norm(expected, block.norm2) @ block.mlp.fc1.weight.T + block.mlp.fc1.bias
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
        expected = expected + hidden @ block.mlp.fc2.weight.T + block.mlp.fc2.bias
    torch.testing.assert_close(stack(x, pos), expected, rtol=1e-10, atol=1e-12)


def timms(dim, heads, rate):
    """timm's own block, as the models here are built of."""
    return timm.models.vision_transformer.Block(
        dim, heads, drop_path=rate, norm_layer=torch.nn.LayerNorm
    )


@pytest.mark.parametrize("training", [False, True])
def test_a_block_is_that_of_timm(training):
    theirs = timms(24, 3, 0.4).train(training).double()
    ours = Block(24, 3, 0.4).train(training).double()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, 0.1, 0.3)
    ours.load_state_dict(theirs.state_dict())  # the same names and shapes
    theirs.attn.fused_attn = False
    x = torch.randn(6, 5, 24, dtype=torch.float64)
    attend = torch.rand(6, 5, 5) < 0.6
    attend |= torch.eye(5, dtype=torch.bool)
    bias = torch.zeros(attend.shape, dtype=torch.float64).masked_fill_(~attend, float("-inf"))
    for mask in (None, bias):
        found = []
        for block in (theirs, ours):
            torch.manual_seed(1)
            out = block(x, mask if mask is None or block is ours else mask.unsqueeze(1))
            grads = torch.autograd.grad(out.square().sum(), list(block.parameters()))
            found.append([out, *grads])
        # dropped branches included; scores are scaled after the product, not before it
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_new_weights_are_drawn_as_timm_draws_them():
    torch.manual_seed(0)
    theirs = timms(24, 3, 0.1).state_dict()
    torch.manual_seed(0)
    ours = Block(24, 3, 0.1).state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_heads_divide_the_width():
    with pytest.raises(ValueError, match="dim=10 is no multiple of heads=3"):
        Attention(10, 3)


@pytest.mark.parametrize("masked", [False, True])
def test_both_forms_of_attention_agree_with_gradients(masked):
    torch.manual_seed(0)
    rows = torch.randn(2, 5, 3 * 3 * 8).requires_grad_()
    attend = torch.zeros(2, 5, 5)
    attend[:, :, 3] = float("-inf")
    mask = attend if masked else None
    forms = (point_ops.attention, transformer.fused)
    ours, theirs = (form(rows, 3, mask) for form in forms)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    found = [torch.autograd.grad(out.square().sum(), rows)[0] for out in (ours, theirs)]
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("device", "calls"), [("cpu", 0), ("meta", 1)])
def test_only_other_devices_take_the_fused_form(device, calls, monkeypatch):
    taken = []
    fused = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F,
        "scaled_dot_product_attention",
        lambda *a, **k: (taken.append(1), fused(*a, **k))[1],
    )
    with torch.device(device):
        assert Attention(24, 3)(torch.empty(2, 5, 24)).shape == (2, 5, 24)
    assert len(taken) == calls


@pytest.mark.parametrize("depth", [4, 12])
def test_stochastic_depth_rises_linearly_from_zero_in_each_stack(depth):
    stack = Stack(24, drop_rates(0.1, depth), 3, init="xavier")
    rates = [block.drop_path.rate for block in stack.blocks]
    assert rates == pytest.approx([0.1 * i / (depth - 1) for i in range(depth)])


def test_initialisation():
    torch.manual_seed(0)
    linear = torch.nn.Linear(256, 512)
    init_weights(linear, "trunc_normal")
    assert linear.weight.std().item() == pytest.approx(0.02, rel=0.03)
    assert not linear.bias.any()
    init_weights(linear, "xavier")
    bound = (6 / (256 + 512)) ** 0.5
    assert linear.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
    assert linear.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.03)


def test_the_last_block_may_compute_the_last_tokens_alone():
    torch.manual_seed(0)
    stack = Stack(24, [0.0, 0.0], 3, init="xavier").double()
    x, pos = torch.randn(2, 4, 7, 24, dtype=torch.float64)
    weights = list(stack.parameters())
    for last in (1, 3, 7):
        found = []
        for out in (stack(x, pos, last=last), stack(x, pos)[:, 7 - last :]):
            found.append([out, *torch.autograd.grad(out.square().sum(), weights)])
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other)
    assert stack(x, pos, last=0).shape == (4, 0, 24)
