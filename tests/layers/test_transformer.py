"""Stacks against a transcription of the block's formula, and the two forms of attention."""

import pytest
import torch
from timm.layers.attention import Attention
from torch.nn import functional as F

from sa3d.layers.transformer import DeviceAttention, Stack, drop_rates, init_weights


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


def test_both_forms_of_attention_agree_with_gradients(monkeypatch):
    torch.manual_seed(0)
    layer = DeviceAttention(24, num_heads=3, qkv_bias=False)
    x = torch.randn(2, 5, 24, requires_grad=True)
    explicit = layer(x)
    (ours,) = torch.autograd.grad(explicit.square().sum(), x)

    calls = []
    fused = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F,
        "scaled_dot_product_attention",
        lambda *a, **k: (calls.append(1), fused(*a, **k))[1],
    )
    layer.fused_attn = True
    sdpa = Attention.forward(layer, x)
    assert calls, "the fused form was not taken"
    (theirs,) = torch.autograd.grad(sdpa.square().sum(), x)
    torch.testing.assert_close(sdpa, explicit, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-6)


def test_other_devices_take_the_fused_form():
    with torch.device("meta"):
        layer = DeviceAttention(24, num_heads=3, qkv_bias=False)
        assert layer(torch.empty(2, 5, 24)).shape == (2, 5, 24)
    assert layer.fused_attn is True


@pytest.mark.parametrize("depth", [4, 12])
def test_stochastic_depth_rises_linearly_from_zero_in_each_stack(depth):
    stack = Stack(24, drop_rates(0.1, depth), 3, init="xavier")
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in stack.blocks]
    assert rates == pytest.approx([0.1 * i / (depth - 1) for i in range(depth)])
    assert rates == [getattr(block.drop_path2, "drop_prob", 0.0) for block in stack.blocks]


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
