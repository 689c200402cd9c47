"""The classifier: its feature, what it loads, and the layers of learning-rate decay."""

import pytest
import torch
from tiny import build, clouds, experiment

from sa3d import models
from sa3d.config.loading import load_experiment
from sa3d.errors import CheckpointError
from sa3d.models.point_mae.heads import PointMAEClassifier


@pytest.fixture
def classifier() -> PointMAEClassifier:
    torch.manual_seed(0)
    return models.build_classifier(experiment().model, 5, 0.5).eval()


def test_logits_are_of_class_token_beside_the_maximum_over_patches(classifier):
    points = clouds().points
    inputs = []
    classifier.head.register_forward_hook(lambda _, args, __: inputs.append(args[0]))
    logits = classifier(points)
    assert logits.shape == (4, 5)

    encoder = classifier.encoder
    backbone = models.build_backbone(experiment().model)
    groups = backbone.group(points)
    x = torch.cat([classifier.cls_token.repeat(4, 1, 1), encoder.embed(groups.patches)], 1)
    pos = torch.cat([classifier.cls_pos.repeat(4, 1, 1), encoder.pos(groups.centers)], 1)
    for block in encoder.stack.blocks:
        x = block(x + pos)
    x = encoder.norm(x)
    feature = torch.stack([torch.cat([s[0], s[1:].max(0).values]) for s in x])
    torch.testing.assert_close(inputs[0], feature)


def test_logits_of_a_cloud_do_not_depend_on_its_batch(classifier):
    points = clouds(4).points
    torch.testing.assert_close(
        classifier(points[2:3])[0], classifier(points)[2], rtol=1e-4, atol=1e-5
    )


def test_every_parameter_trains(classifier):
    classifier.train()
    loss = torch.nn.functional.cross_entropy(classifier(clouds().points), torch.arange(4))
    loss.backward()
    assert [n for n, p in classifier.named_parameters() if p.grad is None] == []


def test_layer_decay_of_the_full_model():
    with torch.device("meta"):
        full = models.build_classifier(load_experiment("point-mae-sa3df").model, 40, 0.5)
    ids = full.layer_ids()
    assert set(ids) == {name for name, _ in full.named_parameters()}
    scale = {name: round(0.75 ** (full.num_layers - layer), 5) for name, layer in ids.items()}
    for name in ("cls_token", "cls_pos", "encoder.embed.point1.weight", "encoder.pos.2.bias"):
        assert scale[name] == 0.03168
    table = [0.04224, 0.05631, 0.07508, 0.10011, 0.13348, 0.17798, 0.23730, 0.31641, 0.42188]
    for block, expected in enumerate([*table, 0.5625, 0.75, 1.0]):
        of_block = {s for n, s in scale.items() if n.startswith(f"encoder.stack.blocks.{block}.")}
        assert list(of_block) == pytest.approx([expected], abs=1.1e-5)
    rest = ("encoder.norm.weight", "head.0.weight", "head.8.bias")
    assert [scale[name] for name in rest] == [1.0, 1.0, 1.0]


def test_tokens_are_spared_by_weight_decay(classifier):
    assert classifier.no_weight_decay() == {"cls_token", "cls_pos"}
    assert classifier.no_weight_decay() <= {name for name, _ in classifier.named_parameters()}


@pytest.mark.parametrize("changes", [{}, {"method": "sa3d"}])
def test_loading_takes_the_whole_encoder_and_nothing_else(classifier, changes):
    state = build(experiment(**changes), seed=3).student_state()
    fresh = {name: value.clone() for name, value in classifier.state_dict().items()}
    report = classifier.load_encoder(state)
    after = classifier.state_dict()
    for name in report.loaded:
        assert torch.equal(after[name], state[f"backbone.{name}"]), name
    for name in report.fresh:
        assert torch.equal(after[name], fresh[name]), name
    assert set(report.loaded) | set(report.fresh) == set(after)
    assert len(report.loaded) == 18 + 4 + 2 * 11 + 2
    assert {name.split(".")[0] for name in report.fresh} == {"cls_token", "cls_pos", "head"}
    assert {f"backbone.{name}" for name in report.loaded} | set(report.unused) == set(state)
    assert not any(name.startswith("backbone.encoder.") for name in report.unused)


def test_an_encoder_that_does_not_fit_is_refused(classifier):
    state = build(experiment()).student_state()
    with pytest.raises(CheckpointError, match=r"lacks embed\.point1\.weight"):
        classifier.load_encoder({})
    without = {k: v for k, v in state.items() if k != "backbone.encoder.norm.weight"}
    with pytest.raises(CheckpointError, match=r"lacks norm\.weight"):
        classifier.load_encoder(without)
    wide = models.build_classifier(experiment({"dim": 48}).model, 5, 0.5)
    with pytest.raises(CheckpointError, match=r"\(24, 512\) instead of \(48, 512\)"):
        wide.load_encoder(state)
