"""The hierarchical backbone: what is visible on which scale, what it must not see, and that it
computes what its plain, looping form does."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import SCALES, clouds, experiment, progress

from benchmarks.plain_m2ae import PlainM2AE
from sa3d import models
from sa3d.config.loading import load_experiment
from sa3d.masking.base import Mask, take
from sa3d.masking.random import RandomMask
from sa3d.models.point_m2ae.backbone import PointM2AE, _within
from sa3d.models.point_m2ae.scales import (
    Ragged,
    ScaleGroups,
    group_scales,
    longest,
    most_visible,
    project_mask,
)

G, M = 16, 12


def make(**model: object) -> PointM2AE:
    torch.manual_seed(0)
    backbone = models.build_backbone(experiment(SCALES | model).model)
    for layer in backbone.modules():  # weights large enough for every input to matter
        if isinstance(layer, torch.nn.Linear):
            layer.reset_parameters()
    for name, buffer in backbone.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.1, 0.3)
        elif name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
    return backbone.eval()


def draw(groups: ScaleGroups, masked: int = M, seed: int = 0) -> Mask:
    return Mask.of(RandomMask(masked)(groups.centers, None, progress(seed=seed)), masked)


@pytest.fixture
def backbone() -> PointM2AE:
    return make()


@pytest.fixture
def groups(backbone) -> ScaleGroups:
    return backbone.group(clouds().points)


@pytest.fixture
def mask(groups) -> Mask:
    return draw(groups)


# --- what is visible on which scale ------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    counts=st.tuples(st.integers(20, 40), st.integers(8, 20), st.integers(3, 8)),
    sizes=st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6)),
    data=st.data(),
)
def test_a_finer_patch_is_visible_where_a_visible_coarser_one_holds_it(seed, counts, sizes, data):
    groups = group_scales(clouds(3, seed, 60).points, counts, sizes)
    masked = data.draw(st.integers(1, counts[-1] - 1))
    mask = draw(groups, masked, seed)
    flags = project_mask(groups, mask)
    assert torch.equal(flags[-1], mask.flags)
    for cloud in range(3):
        seen = set((~mask.flags[cloud]).nonzero()[:, 0].tolist())
        for scale in (2, 1):
            held = groups.scales[scale].index[cloud]
            seen = {int(member) for patch in seen for member in held[patch]}
            assert seen == set((~flags[scale - 1][cloud]).nonzero()[:, 0].tolist())
    # and so every member of a visible patch can be encoded, whatever the scale
    for coarse, fine, scale in zip(flags[1:], flags, groups.scales[1:], strict=False):
        members = take(fine.unsqueeze(2), scale.index.flatten(1)).view_as(scale.index)
        assert not (members & ~coarse.unsqueeze(2)).any()


def test_published_sizes():
    config = load_experiment("point-m2ae-sa3df")
    masked = {name: method.masked_of(64) for name, method in config.methods.items()}
    assert masked == {"random-masks": 51, "sa3df": 51}
    groups = group_scales(
        clouds(2, points=2048).points, config.model.groups, config.model.group_sizes
    )
    assert [scale.centers.shape[1] for scale in groups.scales] == [512, 256, 64]
    fine, middle, coarse = project_mask(groups, draw(groups, 51))
    assert coarse.sum(1).tolist() == [51, 51]
    # section 3.2 of the method's description: about 92 of 256 and 290 to 330 of 512 visible
    assert all(80 <= n <= 104 for n in (~middle).sum(1).tolist())
    assert all(260 <= n <= 350 for n in (~fine).sum(1).tolist())


@given(
    flags=st.integers(1, 4).flatmap(
        lambda b: st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=b, max_size=b)
    )
)
def test_ragged_rows_hold_the_flagged_patches_and_write_nothing_else(flags):
    chosen = torch.tensor(flags)
    rows = Ragged.of(chosen, *longest(chosen))
    assert rows.valid is not None
    assert rows.slots.shape[1] == int(chosen.sum(1).max())
    for row, slots, valid in zip(chosen, rows.slots, rows.valid, strict=True):
        assert slots[valid].tolist() == row.nonzero()[:, 0].tolist()
    before = torch.arange(chosen.numel()).view(*chosen.shape, 1).float()
    new = -1 - take(before, rows.slots)
    after = rows.put(new, before)
    assert torch.equal(after, torch.where(chosen.unsqueeze(2), -1 - before, before))


@pytest.mark.parametrize("masked", [0, 6, 10, 15])
def test_widths_from_shapes_hold_every_visible_patch_and_change_no_token(masked, monkeypatch):
    backbone = make(drop_path=0.0).eval()
    groups = backbone.group(clouds(3, 5).points)
    mask = draw(groups, masked)
    fine, middle, _ = project_mask(groups, mask)
    bounds = most_visible(groups, mask)
    assert all(n <= bound for n, bound in zip(longest(~fine, ~middle), bounds, strict=True))
    exact = backbone.encode(groups, mask)
    monkeypatch.setattr("sa3d.models.point_m2ae.backbone.longest", lambda *flags: bounds)
    padded = backbone.encode(groups, mask)
    torch.testing.assert_close(padded.tokens, exact.tokens, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(padded.middle, exact.middle, rtol=1e-4, atol=1e-5)


def test_widths_of_the_published_sizes():
    scales = [
        SimpleNamespace(index=torch.empty(1, n, k)) for n, k in ((512, 16), (256, 8), (64, 8))
    ]
    mask = SimpleNamespace(visible=torch.empty(1, 13))
    assert most_visible(SimpleNamespace(scales=scales), mask) == [512, 104]


# --- the same as the plain form ----------------------------------------------------------


@pytest.mark.parametrize("training", [False, True])
def test_loss_and_gradients_are_those_of_the_looping_form(training):
    backbone = make(drop_path=0.0).double().train(training)
    points = clouds(3, 5).points.double().float().double()
    groups = backbone.group(points)  # grouping itself is float32
    groups = dataclasses.replace(
        groups,
        scales=tuple(
            dataclasses.replace(s, centers=s.centers.double(), patches=s.patches.double())
            for s in groups.scales
        ),
        centers=groups.centers.double(),
    )
    mask = draw(groups)
    statistics = {n: b.clone() for n, b in backbone.named_buffers()}
    encoded = backbone.encode(groups, mask)
    ours = backbone.point_loss(backbone.decode(encoded, groups, mask), groups, mask).loss
    ours.backward()
    grads = {n: p.grad.clone() for n, p in backbone.named_parameters() if p.grad is not None}
    after = {n: b.clone() for n, b in backbone.named_buffers()}

    backbone.zero_grad()
    for name, buffer in backbone.named_buffers():
        buffer.copy_(statistics[name])
    plain = PlainM2AE(backbone).loss(points, mask.flags)
    plain.backward()
    # our Chamfer distance and points are float32
    torch.testing.assert_close(ours.double(), plain, rtol=1e-5, atol=1e-6)
    theirs = {n: p.grad for n, p in backbone.named_parameters() if p.grad is not None}
    assert grads.keys() == theirs.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(grad, theirs[name], rtol=1e-3, atol=1e-5, msg=name)
    for name, buffer in backbone.named_buffers():
        torch.testing.assert_close(after[name], buffer, rtol=1e-6, atol=1e-8, msg=name)


def test_tokens_within_the_radius_are_those_of_the_looping_form():
    radii = (1.2, 1.6, 2.0)
    backbone = make(radii=list(radii))
    points = clouds(2, 3).points
    groups = backbone.group(points)
    plain = PlainM2AE(backbone)
    every = [[torch.arange(s.centers.shape[1])] * 2 for s in groups.scales]
    theirs = plain.encode(plain.groups(points), every, radii)
    for scale, radius in zip(groups.scales, radii, strict=True):
        seen = _within(scale.centers, radius).float().mean()
        assert 2 / scale.centers.shape[1] < seen < 0.9, "neighbours, and not all"
    ours = backbone.encoder.trunk(groups, local=True)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)
    everywhere = backbone.encoder.trunk(groups)
    assert not torch.allclose(ours[0], everywhere[0], atol=1e-3), "the radius must matter here"


def test_a_token_at_the_radius_is_not_within_it():
    centers = torch.tensor([[[0.0, 0, 0], [0.5, 0, 0], [0, 0.4375, 0]]])
    assert _within(centers, 0.5)[0].tolist() == [
        [True, False, True],
        [False, True, False],  # 0.664 from the third
        [True, False, True],
    ]


# --- what must not be seen ---------------------------------------------------------------


def test_a_cloud_is_the_same_alone_and_in_any_batch(backbone):
    """Masked and whole, features and loss: other clouds have other numbers of visible patches,
    and must not enter through padding or through patch 0."""
    points = clouds(6, 1).points
    points[3] *= 0.1  # near the origin, where padding would lie
    groups = backbone.group(points)
    mask = draw(groups)
    whole = backbone.features(points)
    encoded = backbone.encode(groups, mask)
    decoded = backbone.decode(encoded, groups, mask)
    counts = (~project_mask(groups, mask)[0]).sum(1)
    assert len(set(counts.tolist())) > 1, "no padding, nothing is tested"
    hardness = backbone.point_loss(decoded, groups, mask)
    for cloud in range(6):
        alone = backbone.group(points[cloud : cloud + 1])
        row = Mask(*(part[cloud : cloud + 1] for part in mask))
        torch.testing.assert_close(
            backbone.features(points[cloud : cloud + 1])[0], whole[cloud], rtol=0, atol=1e-5
        )
        by_itself = backbone.encode(alone, row)
        torch.testing.assert_close(by_itself.tokens[0], encoded.tokens[cloud], rtol=0, atol=1e-5)
        torch.testing.assert_close(by_itself.middle[0], encoded.middle[cloud], rtol=0, atol=1e-5)
        rebuilt = backbone.point_loss(backbone.decode(by_itself, alone, row), alone, row)
        torch.testing.assert_close(rebuilt.per_patch[0], hardness.per_patch[cloud])
        assert torch.equal(rebuilt.valid[0], hardness.valid[cloud])


def test_masked_points_reach_neither_encoder_nor_decoder(backbone, groups, mask):
    """Patches of the finest scale are all that the encoder reads of the cloud."""
    noise = torch.randn(groups.scales[0].patches.shape, generator=torch.Generator().manual_seed(1))
    hidden = project_mask(groups, mask)[0][:, :, None, None]

    def middle(patches: torch.Tensor) -> torch.Tensor:
        fine = dataclasses.replace(groups.scales[0], patches=patches)
        changed = dataclasses.replace(groups, scales=(fine, *groups.scales[1:]))
        return backbone.decode(backbone.encode(changed, mask), changed, mask).middle

    before = middle(groups.scales[0].patches)
    assert torch.equal(before, middle(torch.where(hidden, noise, groups.scales[0].patches)))
    assert not torch.allclose(before, middle(torch.where(hidden, groups.scales[0].patches, noise)))


def test_patch_0_is_masked_like_any_other(backbone, groups):
    flags = torch.zeros(4, G, dtype=torch.bool)
    flags[:, :-1] = True  # all but the last coarse patch
    fine, middle, _ = project_mask(groups, Mask.of(flags, G - 1))
    assert (middle[:, 0] == ~(groups.index[:, -1] == 0).any(1)).all()
    assert fine[:, 0].any()


# --- reconstruction and hardness ---------------------------------------------------------


def test_hardness_is_the_mean_over_masked_members(backbone, groups, mask):
    decoded = backbone.decode(backbone.encode(groups, mask), groups, mask)
    found = backbone.point_loss(decoded, groups, mask)
    points = backbone.decoder.points(decoded.middle)
    assert points.shape[2] == SCALES["group_sizes"][0]
    assert groups.scales[1].patches.shape[2] == SCALES["group_sizes"][1]
    gap = (points[:, :, :, None] - groups.scales[1].patches[:, :, None]).square().sum(4)
    error = gap.amin(3).mean(2) + gap.amin(2).mean(2)
    torch.testing.assert_close(found.loss, error[decoded.middle_masked].mean())
    rebuilt = backbone.reconstruct(decoded, groups, mask)
    for cloud in range(4):
        for place, patch in enumerate(mask.masked[cloud].tolist()):
            members = groups.index[cloud, patch]
            hidden = members[decoded.middle_masked[cloud, members]]
            assert bool(found.valid[cloud, place]) == (len(hidden) > 0)
            if len(hidden):
                expected = error[cloud, hidden].mean()
                torch.testing.assert_close(found.per_patch[cloud, place], expected)
            there = rebuilt[cloud, place]
            there = there[~there.isnan().any(1)]
            expected = points[cloud, hidden] + groups.scales[1].centers[cloud, hidden, None]
            torch.testing.assert_close(there, expected.flatten(0, 1))


def test_a_patch_without_masked_members_is_marked():
    backbone = make(groups=[16, 8, 8], group_sizes=[4, 8, 8])  # every patch holds every other
    groups = backbone.group(clouds(2).points)
    mask = draw(groups, 4)
    decoded = backbone.decode(backbone.encode(groups, mask), groups, mask)
    found = backbone.point_loss(decoded, groups, mask)
    assert not found.valid.any()
    assert not found.per_patch.any()
    assert found.loss.item() == 0.0
    assert backbone.reconstruct(decoded, groups, mask).isnan().all()
