"""Methods, pictures and classifiers on the hierarchical backbone."""

import pytest
import torch
from tiny import GROUPS, OURS, PLAIN, PLAIN_MASKS, SCALES, build, clouds, experiment, progress

from sa3d.config.loading import load_experiment
from sa3d.errors import CheckpointError
from sa3d.methods.explain import explain
from sa3d.methods.mae.method import MAE
from sa3d.models.point_m2ae.backbone import PointM2AETrunk
from sa3d.models.point_m2ae.heads import PointM2AEClassifier


@pytest.mark.parametrize("method", ["sa3df", "sa3d"])
def test_every_trainable_parameter_gets_a_gradient(method):
    student = build(experiment(SCALES, method=method))
    loss = student.training_step(clouds(), progress())["loss"]
    loss.backward()
    silent = [n for n, p in student.named_parameters() if p.requires_grad and p.grad is None]
    assert silent == []
    frozen = {n for n, p in student.backbone.named_parameters() if not p.requires_grad}
    assert frozen == {"encoder.norms.0.weight", "encoder.norms.0.bias"}


def test_the_point_term_is_the_backbones_own_and_that_of_plain_masks_too():
    assert experiment(SCALES).methods[OURS].point_term == "ground_truth_grad"
    assert experiment(PLAIN).methods[OURS].point_term == "teacher_decoded_nograd"
    with pytest.raises(ValueError, match=r"model\.backbone=point-m2ae has not; use ground_truth"):
        experiment(SCALES, point_term="teacher_decoded_grad")
    plain = build(experiment(SCALES), variant=PLAIN_MASKS)
    assert isinstance(plain, MAE)
    values = plain.training_step(clouds(), progress())
    values["loss"].backward()
    silent = [n for n, p in plain.named_parameters() if p.requires_grad and p.grad is None]
    assert silent == []


def test_hardness_without_points_falls_back_on_features_or_leaves_the_ranking():
    """Every patch holds every other: no masked patch has points of its own."""
    holds_all = SCALES | {"groups": [16, 8, 8], "group_sizes": [4, 8, 8]}
    features = build(experiment(holds_all)).training_step(clouds(), progress())
    assert float(features["train/gc_loss"]) > 0.1
    alone = build(experiment(holds_all, method="sa3d")).training_step(clouds(), progress())
    assert float(alone["train/gc_loss"]) == 0.0


def test_pictures_show_points_of_the_cloud_and_points_of_masked_members():
    method = build(experiment(SCALES))
    found = explain(method, clouds(3).points, progress())
    sizes = SCALES["group_sizes"]
    assert found.index.shape == (3, GROUPS, sizes[0] * sizes[1] * sizes[2])
    groups = method.backbone.group(clouds(3).points)
    for patch in range(GROUPS):
        expected = {
            int(point)
            for middle in groups.index[1, patch]
            for fine in groups.scales[1].index[1, middle]
            for point in groups.scales[0].index[1, fine]
        }
        assert set(found.index[1, patch].tolist()) == expected
    assert found.rebuilt.shape[2] == sizes[2] * sizes[0]


@pytest.mark.parametrize("pooling", ["sum", "concat"])
def test_a_classifier_takes_the_trunk_and_leaves_the_norms(pooling):
    config = experiment(SCALES)
    student = build(config)
    classifier = PointM2AEClassifier(config.model, 5, 0.0, pooling)
    report = classifier.load_encoder(student.student_state())
    assert {name.partition(".")[0] for name in report.fresh} == {"norm", "head"}
    assert "backbone.encoder.norms.1.weight" in report.unused
    trained = student.backbone.encoder.trunk.state_dict()
    assert all(torch.equal(v, trained[k]) for k, v in classifier.encoder.state_dict().items())

    classifier.eval()
    points = clouds(3).points
    groups = student.backbone.group(points)
    tokens = classifier.norm(classifier.encoder(groups, local=True)[-1])
    pooled = [tokens.mean(1), tokens.max(1).values]
    feature = sum(pooled) if pooling == "sum" else torch.cat(pooled, 1)
    torch.testing.assert_close(classifier(points), classifier.head(feature))
    torch.testing.assert_close(classifier(points)[1:2], classifier(points[1:2]), rtol=0, atol=1e-5)

    with pytest.raises(CheckpointError, match="do not fit"):
        classifier.load_encoder(build(experiment()).student_state())


def test_layers_rise_from_the_finest_embedding_to_the_head():
    config = experiment(SCALES)  # blocks of the scales: 1, 2, 1
    classifier = PointM2AEClassifier(config.model, 5, 0.0)
    ids = classifier.layer_ids()
    assert classifier.num_layers == 4
    assert ids.keys() == {name for name, _ in classifier.named_parameters()}
    first = {name.rsplit(".", 2)[0]: layer for name, layer in ids.items()}
    assert {first["encoder.embeds.0"], first["encoder.pos.0"]} == {0}
    assert first["encoder.stacks.0.blocks.0.attn"] == 1
    assert {first["encoder.embeds.1"], first["encoder.pos.1"]} == {1}
    assert [first[f"encoder.stacks.1.blocks.{b}.attn"] for b in (0, 1)] == [2, 3]
    assert {first["encoder.embeds.2"], first["encoder.pos.2"]} == {3}
    assert first["encoder.stacks.2.blocks.0.attn"] == 4
    assert ids["norm.weight"] == ids["head.8.bias"] == 4


def test_stochastic_depth_rises_through_all_scales():
    trunk = PointM2AETrunk(load_experiment("point-m2ae").model)
    rates = [block.drop_path.rate for s in trunk.stacks for block in s.blocks]
    assert rates == pytest.approx(torch.linspace(0, 0.1, 15).tolist())
