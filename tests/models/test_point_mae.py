"""The backbone: what it sees, what it must not see, in which order it answers."""

import dataclasses

import pytest
import torch
from tiny import GROUPS, clouds, experiment, progress

from sa3d import models
from sa3d.errors import CheckpointError
from sa3d.layers.patches import Groups
from sa3d.masking.base import Mask, take
from sa3d.masking.random import RandomMask
from sa3d.methods.mae.method import MAE
from sa3d.models.backbone import Decoded
from sa3d.models.point_mae.backbone import PointMAE

M = 10


@pytest.fixture
def backbone() -> PointMAE:
    torch.manual_seed(0)
    backbone = models.build_backbone(experiment().model)
    for layer in backbone.modules():  # weights large enough for every input to matter
        if isinstance(layer, torch.nn.Linear):
            layer.reset_parameters()
    for name, buffer in backbone.named_buffers():  # statistics unlike those of any batch here
        if name.endswith("running_var"):
            buffer.uniform_(0.1, 0.3)
        elif name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
    return backbone.eval()


@pytest.fixture
def groups(backbone) -> Groups:
    return backbone.group(clouds().points)


@pytest.fixture
def mask(groups) -> Mask:
    return Mask.of(RandomMask(M)(groups.centers, None, progress()), M)


def decode(backbone: PointMAE, groups: Groups, mask: Mask) -> Decoded:
    return backbone.decode(backbone.encode(groups, mask), groups, mask)


def test_shapes(backbone, groups, mask):
    assert backbone.encode(groups, None).tokens.shape == (4, GROUPS, 24)
    encoded = backbone.encode(groups, mask)
    assert encoded.tokens.shape == (4, GROUPS - M, 24)
    decoded = backbone.decode(encoded, groups, mask)
    assert decoded.tokens.shape == (4, M, 24)
    assert backbone.reconstruct(decoded, groups, mask).shape == (4, M, 8, 3)
    assert backbone.point_loss(decoded, groups, mask).per_patch.shape == (4, M)
    assert backbone.decoder_positions(groups).shape == (4, GROUPS, 24)


def test_masked_points_reach_neither_encoder_nor_decoder(backbone, groups, mask):
    noise = torch.randn(groups.patches.shape, generator=torch.Generator().manual_seed(1))
    hidden = mask.flags[:, :, None, None]
    changed = dataclasses.replace(groups, patches=torch.where(hidden, noise, groups.patches))
    assert torch.equal(
        decode(backbone, groups, mask).tokens, decode(backbone, changed, mask).tokens
    )
    seen = dataclasses.replace(groups, patches=torch.where(hidden, groups.patches, noise))
    assert not torch.allclose(
        decode(backbone, groups, mask).tokens, decode(backbone, seen, mask).tokens
    )


def test_decoder_tokens_are_those_of_masked_patches_ascending(backbone, groups, mask):
    """Renumbering the patches must move every token with its patch and change nothing else."""
    generator = torch.Generator().manual_seed(2)
    shuffle = torch.stack([torch.randperm(GROUPS, generator=generator) for _ in range(4)])
    moved = Groups(
        take(groups.centers, shuffle), take(groups.patches, shuffle), take(groups.index, shuffle)
    )
    moved_mask = Mask.of(mask.flags.gather(1, shuffle), M)
    first, second = decode(backbone, groups, mask), decode(backbone, moved, moved_mask)
    by_patch = torch.full((4, GROUPS, 24), torch.nan)
    by_patch.scatter_(1, mask.masked.unsqueeze(-1).expand(-1, -1, 24), first.tokens)
    renumbered = take(by_patch, shuffle)  # natural order of the moved cloud
    expected = take(renumbered, moved_mask.masked)
    torch.testing.assert_close(second.tokens, expected, rtol=1e-4, atol=1e-5)
    for name, decoded, cut, its in (
        ("first", first, groups, mask),
        ("second", second, moved, moved_mask),
    ):
        offsets = (
            backbone.reconstruct(decoded, cut, its) - take(cut.centers, its.masked)[:, :, None]
        )
        head = backbone.decoder.head(decoded.tokens).view(4, M, 8, 3)
        torch.testing.assert_close(offsets, head, rtol=1e-3, atol=1e-5, msg=name)


def test_point_loss_compares_each_masked_patch_with_its_own_points(backbone, groups, mask):
    decoded = decode(backbone, groups, mask)
    found = backbone.point_loss(decoded, groups, mask)
    absolute = backbone.reconstruct(decoded, groups, mask)
    points = clouds().points
    for b in range(4):
        for m, patch in enumerate(mask.masked[b].tolist()):
            true = points[b, groups.index[b, patch]].double()
            square = (absolute[b, m].double()[:, None] - true[None]).square().sum(-1)
            expected = square.min(1).values.mean() + square.min(0).values.mean()
            assert found.per_patch[b, m].item() == pytest.approx(expected.item(), rel=1e-4)
    assert found.loss.item() == pytest.approx(found.per_patch.double().mean().item(), rel=1e-5)
    assert found.valid is None


def test_features_are_mean_plus_max_of_all_tokens_and_independent_of_the_batch(backbone):
    points = clouds(5).points
    tokens = backbone.encode(backbone.group(points), None).tokens
    found = backbone.features(points)
    torch.testing.assert_close(found, tokens.mean(1) + tokens.max(1).values)
    torch.testing.assert_close(backbone.features(points[2:3])[0], found[2], rtol=1e-4, atol=1e-5)
    assert not found.requires_grad
    backbone.train()
    with pytest.raises(AssertionError, match="eval"):
        backbone.features(points)


def test_features_decoded_without_mask_tokens_ignore_them(backbone, groups):
    tokens = backbone.encode(groups, None).tokens
    before = backbone.decode_features(tokens, groups.centers)
    assert before.shape == (4, GROUPS, 8, 3)
    torch.nn.init.constant_(backbone.decoder.mask_token, 9.0)
    assert torch.equal(before, backbone.decode_features(tokens, groups.centers))


def test_initialisation_of_tokens_encoder_and_decoder():
    torch.manual_seed(0)
    backbone = models.build_backbone(experiment({"dim": 96, "heads": 4}).model)
    assert backbone.decoder.mask_token.std().item() == pytest.approx(0.02, rel=0.3)
    assert backbone.encoder.embed.patch1.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert backbone.encoder.pos[0].weight.std().item() == pytest.approx(0.02, rel=0.15)
    fc1 = backbone.decoder.stack.blocks[0].mlp.fc1.weight
    assert fc1.std().item() == pytest.approx((2 / (96 + 384)) ** 0.5, rel=0.05)


def test_mae_step_trains_every_parameter_and_learns():
    torch.manual_seed(0)
    method = MAE(models.build_backbone(experiment({"drop_path": 0.0}).model), RandomMask(M)).train()
    optimiser = torch.optim.AdamW(method.parameters(), lr=2e-3)
    losses = []
    for step in range(25):
        out = method.training_step(clouds(), progress(seed=step))
        out["loss"].backward()
        assert [n for n, p in method.named_parameters() if p.grad is None] == []
        optimiser.step()
        optimiser.zero_grad()
        losses.append(out["loss"].item())
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    assert method.no_weight_decay() == {"backbone.decoder.mask_token"}


def test_loading_a_student_state(backbone):
    method = MAE(backbone, RandomMask(M))
    state = method.student_state()
    torch.manual_seed(5)
    other = models.build_backbone(experiment().model)
    other.load_student(state)
    for name, value in other.state_dict().items():
        assert torch.equal(value, state[f"backbone.{name}"]), name


def test_a_state_of_another_architecture_is_refused_and_changes_nothing(backbone):
    state = MAE(backbone, RandomMask(M)).student_state()
    other = models.build_backbone(experiment({"dim": 48}).model)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"\(24, 512\) instead of \(48, 512\)"):
        other.load_student(state)
    deeper = models.build_backbone(experiment({"depth": 3}).model)
    with pytest.raises(CheckpointError, match=r"lacks encoder\.stack\.blocks\.2"):
        deeper.load_student(state)
    with pytest.raises(CheckpointError, match=r"lacks encoder\.embed\.point1\.weight"):
        other.load_student({})
    extra = {**state, "backbone.more": torch.zeros(1)}
    with pytest.raises(CheckpointError, match="has more, unknown"):
        backbone.load_student(extra)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())
