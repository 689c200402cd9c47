"""The segmenters: their heads against the definition written out, what they load, and what a
cloud's logits must not depend on."""

import pytest
import torch
from tiny import DIM, GROUPS, PLAIN, POINTS, SCALES, SIZE, build, clouds, experiment
from torch import Tensor, nn

from sa3d import models
from sa3d.errors import CheckpointError, ConfigError
from sa3d.layers.heads import FeaturePropagation
from sa3d.layers.patches import group_points
from sa3d.models.downstream import Segmenter
from sa3d.models.point_m2ae.scales import group_scales
from sa3d.models.point_m2ae.settings import PointM2AEConfig
from sa3d.models.point_mae.settings import PointMAEConfig

PARTS, CATEGORIES = 7, 5
MODELS = {"plain": PLAIN | {"depth": 3}, "scales": SCALES}
CATEGORY = torch.tensor([3, 0, 4, 1])


def make(model: dict, dropout: float = 0.5) -> Segmenter:
    """In eval(), with weights and statistics that let every input and every order matter."""
    torch.manual_seed(0)
    segmenter = models.build_segmenter(experiment(model).model, PARTS, CATEGORIES, dropout)
    for layer in segmenter.modules():
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()
        if isinstance(layer, nn.LayerNorm | nn.BatchNorm1d):
            nn.init.normal_(layer.weight, 1, 0.3)
            nn.init.normal_(layer.bias, 0, 0.3)
        if isinstance(layer, nn.BatchNorm1d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.1, 0.3)
    return segmenter.eval()


@pytest.fixture(params=MODELS, scope="module")
def segmenter(request) -> Segmenter:
    return make(MODELS[request.param])


# --- the published models ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "tensors", "parameters"),
    [(PointMAEConfig(groups=128), 192, 27_063_730), (PointM2AEConfig(), 308, 25_474_354)],
)
def test_counts(config, tensors, parameters):
    with torch.device("meta"):
        segmenter = models.build_segmenter(config, 50, 16)
    assert len(segmenter.state_dict()) == tensors
    assert sum(parameter.numel() for parameter in segmenter.parameters()) == parameters


def test_layouts():
    """Shapes that the converter of published weights will map, one to one."""
    with torch.device("meta"):
        plain = models.build_segmenter(PointMAEConfig(groups=128), 50, 16).state_dict()
        scales = models.build_segmenter(PointM2AEConfig(), 50, 16).state_dict()

    def weights(state: dict[str, Tensor]) -> list[tuple[int, ...]]:
        found = [(name, tuple(value.shape)) for name, value in state.items()]
        return [s for n, s in found if not n.startswith("encoder.") and len(s) == 2]

    propagated = [(1536, 1155), (1024, 1536)]
    assert weights(plain) == [(64, 16), *propagated, (512, 3392), (256, 512), (50, 256)]
    propagated = [(1536, 99), (1024, 1536), (1536, 195), (1024, 1536), (1536, 387), (1024, 1536)]
    head = [(1024, 6208), (512, 1024), (256, 512), (50, 256)]
    assert weights(scales) == [(64, 16), *propagated, *head]


# --- the definition, written out ---------------------------------------------------------


def rows(x: Tensor, linear: nn.Linear | None, norm: nn.BatchNorm1d, slope: float = 0.0) -> Tensor:
    """Linear, BatchNorm with its running statistics, (leaky) ReLU; on (rows, channels)."""
    if linear is not None:
        x = x @ linear.weight.T + (0 if linear.bias is None else linear.bias)
    x = (x - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
    return torch.where(x > 0, x, slope * x)


def spread(points: Tensor, centers: Tensor, tokens: Tensor) -> Tensor:
    """One cloud: (N, C) of tokens (m, C), point by point."""
    found = []
    for point in points:
        square = ((centers - point) ** 2).sum(1)
        nearest = square.argsort()[:3]
        weight = 1 / (square[nearest] + 1e-8)
        found.append((weight[:, None] * tokens[nearest]).sum(0) / weight.sum())
    return torch.stack(found)


def propagated(layer: FeaturePropagation, points: Tensor, centers: Tensor, tokens: Tensor):
    x = torch.cat([points, spread(points, centers, tokens)], 1)
    return rows(rows(x, layer.lift, layer.lift_norm), layer.out, layer.out_norm)


def label_of(segmenter: Segmenter, category: Tensor) -> Tensor:
    one_hot = torch.zeros(1, CATEGORIES)
    one_hot[0, category] = 1
    return rows(one_hot, segmenter.category.lift, segmenter.category.norm, 0.2)[0]


def head_of(segmenter: Segmenter, x: Tensor) -> Tensor:
    layers = segmenter.head.rest
    x = rows(x, segmenter.head.first, layers[0])
    for at in range(3, len(layers) - 1, 3):
        x = rows(x, layers[at], layers[at + 1])
    return x @ layers[-1].weight.T + layers[-1].bias


@torch.no_grad()
@pytest.mark.parametrize(("depth", "taps"), [(3, (1, 2, 3)), (4, (1, 2, 4)), (6, (2, 4, 6))])
def test_plain_logits_are_those_of_the_definition(depth, taps):
    segmenter = make(PLAIN | {"depth": depth})
    points, encoder = clouds(2).points, segmenter.encoder
    groups = group_points(points, GROUPS, SIZE)
    x, pos = encoder.embed(groups.patches), encoder.pos(groups.centers)
    outputs = []
    for block in encoder.stack.blocks:
        x = block(x + pos)
        outputs.append(x)
    features = torch.cat([encoder.norm(outputs[tap - 1]) for tap in taps], 2)
    assert features.shape == (2, GROUPS, 3 * DIM)
    expected = []
    for b in range(2):
        local = propagated(segmenter.propagate, points[b], groups.centers[b], features[b])
        label = label_of(segmenter, CATEGORY[b])
        whole = torch.cat([features[b].max(0).values, features[b].mean(0), label])
        expected.append(head_of(segmenter, torch.cat([local, whole.repeat(POINTS, 1)], 1)))
    found = segmenter(points, CATEGORY[:2])
    assert found.shape == (2, POINTS, PARTS)
    assert found.std() > 0.05
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_scale_logits_are_those_of_the_definition():
    segmenter = make(SCALES)
    points = clouds(2).points
    groups = group_scales(points, SCALES["groups"], SCALES["group_sizes"])
    tokens = segmenter.encoder.trunk(groups, local=True)
    expected = []
    for b in range(2):
        local = torch.cat(
            [
                propagated(layer, points[b], scale.centers[b], norm(found[b]))
                for layer, scale, norm, found in zip(
                    segmenter.propagate,
                    groups.scales,
                    segmenter.encoder.norms,
                    tokens,
                    strict=True,
                )
            ],
            1,
        )
        whole = torch.cat([local.max(0).values + local.mean(0), label_of(segmenter, CATEGORY[b])])
        expected.append(head_of(segmenter, torch.cat([whole.repeat(POINTS, 1), local], 1)))
    found = segmenter(points, CATEGORY[:2])
    assert found.shape == (2, POINTS, PARTS)
    assert found.std() > 0.05
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-5, atol=1e-5)


# --- behaviour ---------------------------------------------------------------------------


@torch.no_grad()
def test_logits_of_a_cloud_do_not_depend_on_its_batch(segmenter):
    points = clouds(4).points
    alone = segmenter(points[2:3], CATEGORY[2:3])[0]
    torch.testing.assert_close(alone, segmenter(points, CATEGORY)[2], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_logits_follow_their_points(segmenter):
    # the first point starts the choice of centres; it stays
    points = clouds(2).points
    order = torch.randperm(POINTS - 1, generator=torch.Generator().manual_seed(1)) + 1
    order = torch.cat([torch.zeros(1, dtype=torch.int64), order])
    moved = segmenter(points[:, order], CATEGORY[:2])
    expected = segmenter(points, CATEGORY[:2])[:, order]
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_logits_depend_on_the_category(segmenter):
    points = clouds(1).points.expand(4, -1, -1)
    logits = segmenter(points, CATEGORY)
    gaps = [(logits[i] - logits[0]).abs().max().item() for i in (1, 2, 3)]
    assert min(gaps) > 1e-2


@pytest.mark.parametrize("wrong", [-1, CATEGORIES])
def test_a_category_out_of_range_is_refused(segmenter, wrong):
    with pytest.raises(ValueError, match=rf"categories \[{wrong}, 3\]|\[3, {wrong}\].*0 to 4"):
        segmenter(clouds(2).points, torch.tensor([3, wrong]))


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_trains(name):
    segmenter = make(MODELS[name]).train()
    logits = segmenter(clouds(4).points, CATEGORY)
    target = torch.arange(4 * POINTS) % PARTS
    nn.functional.cross_entropy(logits.flatten(0, 1), target).backward()
    for parameter_name, parameter in segmenter.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        if parameter.ndim > 1:  # a bias before BatchNorm has no effect
            assert parameter.grad.any(), parameter_name


@torch.no_grad()
def test_logits_are_float32_whatever_the_precision(segmenter):
    points = clouds(2).points
    with torch.autocast("cpu", torch.bfloat16):
        rough = segmenter(points, CATEGORY[:2])
    exact = segmenter(points, CATEGORY[:2])
    assert rough.dtype == exact.dtype == torch.float32
    assert (rough - exact).std() < 0.1 * exact.std()


def test_dropout_follows_the_first_layer_of_the_head():
    for model in MODELS.values():
        rates = [m.p for m in make(model, 0.3).head.modules() if isinstance(m, nn.Dropout)]
        assert rates == [0.3]


def test_an_encoder_too_shallow_is_refused():
    with pytest.raises(ConfigError, match=r"depth=2: .*at least 3 blocks") as found:
        models.build_segmenter(experiment({"depth": 2}).model, PARTS, CATEGORIES)
    assert "\n" not in str(found.value)


# --- fine-tuning -------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "tensors"), [("plain", 18 + 4 + 3 * 11 + 2), ("scales", 116)])
def test_loading_takes_the_whole_encoder_and_nothing_else(name, tensors):
    config = experiment(MODELS[name], method="mae", mask="random")
    state = build(config, seed=3).student_state()
    segmenter = make(MODELS[name])
    before = {key: value.clone() for key, value in segmenter.state_dict().items()}
    report = segmenter.load_encoder(state)
    after = segmenter.state_dict()
    for key in report.loaded:
        assert torch.equal(after[key], state[f"backbone.{key}"]), key
    for key in report.fresh:
        assert torch.equal(after[key], before[key]), key
    assert set(report.loaded) | set(report.fresh) == set(after)
    assert len(report.loaded) == tensors
    assert {key.split(".")[0] for key in report.fresh} == {"category", "propagate", "head"}
    assert {f"backbone.{key}" for key in report.loaded} | set(report.unused) == set(state)
    assert not any(key.startswith("backbone.encoder.") for key in report.unused)


def test_an_encoder_that_does_not_fit_is_refused():
    states = {
        name: build(experiment(model, method="mae", mask="random")).student_state()
        for name, model in MODELS.items()
    }
    plain, scales = (make(model) for model in MODELS.values())
    with pytest.raises(CheckpointError, match=r"lacks embed\.point1\.weight"):
        plain.load_encoder(states["scales"])
    with pytest.raises(CheckpointError, match=r"lacks trunk\.embeds\.0\.point1\.weight"):
        scales.load_encoder(states["plain"])
    without = {k: v for k, v in states["scales"].items() if "encoder.norms.0" not in k}
    with pytest.raises(CheckpointError, match=r"lacks norms\.0\.weight"):
        scales.load_encoder(without)


def test_layers_of_the_plain_encoder_are_the_classifiers():
    segmenter = make(PLAIN | {"depth": 3})
    config = experiment({"depth": 3})
    classifier = models.build_classifier(config.model, 5, 0.5).layer_ids()
    ids = segmenter.layer_ids()
    assert set(ids) == {name for name, _ in segmenter.named_parameters()}
    assert segmenter.num_layers == 3
    for name, layer in ids.items():
        assert layer == (classifier[name] if name.startswith("encoder.") else 3), name
    assert [ids["encoder.pos.0.bias"], ids["encoder.stack.blocks.1.norm1.bias"]] == [0, 2]
    assert segmenter.no_weight_decay() == set()


def test_layers_of_the_scales_are_the_classifiers():
    segmenter = make(SCALES)
    classifier = models.build_classifier(experiment(SCALES).model, 5, 0.5).layer_ids()
    ids = segmenter.layer_ids()
    assert set(ids) == {name for name, _ in segmenter.named_parameters()}
    assert segmenter.num_layers == 1 + 2 + 1
    for name, layer in ids.items():
        assert layer == classifier.get(name.replace("encoder.trunk.", "encoder."), 4), name
    of = {name: ids[f"encoder.{name}"] for name in ("norms.0.weight", "trunk.pos.1.2.bias")}
    assert of == {"norms.0.weight": 4, "trunk.pos.1.2.bias": 1}
    assert ids["encoder.trunk.stacks.1.blocks.1.norm1.bias"] == 3
    assert ids["encoder.trunk.embeds.2.point1.weight"] == 3
    assert segmenter.no_weight_decay() == set()
