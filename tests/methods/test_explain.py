"""What the pictures are made of."""

import pytest
import torch
from tiny import GROUPS, OURS, PLAIN_MASKS, SIZE, build, clouds, experiment, progress

from sa3d.methods.explain import explain

M = 10


@pytest.mark.parametrize(
    ("changes", "variant"),
    [({}, OURS), ({"point_term": "ground_truth_grad"}, OURS), ({}, PLAIN_MASKS)],
)
def test_shapes_and_coordinates(changes, variant):
    method = build(experiment(**changes), variant=variant)
    masked = method.strategy.masked
    points = clouds(3).points
    found = explain(method, points, progress(epoch=9))
    assert found.mask.sum(1).tolist() == [masked] * 3
    assert torch.equal(found.masked, torch.stack([row.nonzero()[:, 0] for row in found.mask]))
    assert found.rebuilt.shape == (3, masked, SIZE, 3)
    assert found.centers.shape == (3, GROUPS, 3)
    nearest = torch.cdist(found.centers, points, compute_mode="donot_use_mm_for_euclid_dist")
    assert torch.equal(found.index, nearest.topk(SIZE, largest=False).indices)
    assert (found.scores is None) == (variant == PLAIN_MASKS)
    assert method.training  # restored


def test_scores_are_the_teachers_and_rule_the_mask_at_the_end():
    method = build(experiment(mask={"name": "gc", "end_ratio": 1.0}))
    with torch.no_grad():  # a teacher unlike the student
        for parameter in method.teacher.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    points = clouds(3).points
    found = explain(method, points, progress(epoch=9))
    torch.testing.assert_close(found.scores, method.teacher(method.backbone.group(points)))
    hardest = found.scores.topk(M, dim=1).indices.sort(1).values
    assert torch.equal(found.masked, hardest)


def test_the_early_mask_owes_nothing_to_scores():
    method = build(experiment(mask={"name": "gc", "end_ratio": 0.05}))
    first = explain(method, clouds(3).points, progress(epoch=0))
    with torch.no_grad():
        method.teacher.average.gc.out.weight.neg_()
    second = explain(method, clouds(3).points, progress(epoch=0))
    assert not torch.equal(first.scores, second.scores)
    assert torch.equal(first.mask, second.mask)


def test_rebuilt_points_come_from_the_decoder_that_training_uses():
    points = clouds(3).points
    for changes, by_teacher in (({}, True), ({"point_term": "ground_truth_grad"}, False)):
        method = build(experiment(**changes))
        before = explain(method, points, progress()).rebuilt
        head = (method.knowledge_teacher if by_teacher else method.backbone).decoder.head
        with torch.no_grad():
            head.bias.add_(1.0)
        after = explain(method, points, progress()).rebuilt
        torch.testing.assert_close(after, before + 1, rtol=1e-4, atol=1e-5)


def test_explaining_changes_nothing():
    method = build(experiment())
    before = {name: value.clone() for name, value in method.state_dict().items()}
    explain(method, clouds(3).points, progress())
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
