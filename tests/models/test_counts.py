"""Tensors and parameters of the published models, counted without allocating them."""

import pytest
import torch
from torch import nn

from sa3d import models
from sa3d.config.loading import load_experiment
from sa3d.methods.build import build_method


def count(state: dict[str, torch.Tensor], parameters: list[nn.Parameter]) -> tuple[int, int]:
    return len(state), sum(parameter.numel() for parameter in parameters)


@pytest.fixture(autouse=True)
def _on_meta():
    with torch.device("meta"):
        yield


def test_point_mae_pretraining():
    backbone = models.build_backbone(load_experiment("point-mae").model)
    assert count(backbone.state_dict(), list(backbone.parameters())) == (209, 29_006_432)


def test_point_m2ae_pretraining():
    backbone = models.build_backbone(load_experiment("point-m2ae").model)
    assert count(backbone.state_dict(), list(backbone.parameters())) == (293, 15_255_856)


@pytest.mark.parametrize(
    ("classes", "pooling", "parameters"), [(40, None, 12_830_056), (15, "concat", 12_921_935)]
)
def test_point_m2ae_classifiers(classes, pooling, parameters):
    """As published for ModelNet40 and for ScanObjectNN."""
    model = load_experiment("point-m2ae").model
    classifier = models.build_classifier(model, classes, 0.5, pooling)
    assert count(classifier.state_dict(), list(classifier.parameters())) == (249, parameters)


@pytest.mark.parametrize(
    ("variant", "tensors", "parameters"),
    [("sa3df", 355, 51_077_984), ("sa3d", 267, 36_891_488)],
)
def test_sa3d_students(variant, tensors, parameters):
    config = load_experiment(f"point-mae-{variant}")
    settings = config.methods[variant]
    teacher = models.build_backbone(config.model) if settings.has_teacher else None
    method = build_method(settings, config.model, teacher)
    own = [p for n, p in method.named_parameters() if not n.startswith(method.teachers)]
    found = count(method.student_state(), own)
    # The published model carries one LayerNorm (weight and bias of 384) that nothing uses.
    assert (found[0] + 2, found[1] + 2 * 384) == (tensors, parameters)


@pytest.mark.parametrize(("classes", "parameters"), [(40, 22_099_752), (15, 22_093_327)])
def test_classifiers(classes, parameters):
    classifier = models.build_classifier(load_experiment("point-mae-sa3df").model, classes, 0.5)
    assert count(classifier.state_dict(), list(classifier.parameters())) == (174, parameters)


def test_block_and_embedding_layouts():
    """Names and shapes that the converter of published weights will map, one to one."""
    encoder = models.build_backbone(load_experiment("point-mae").model).encoder
    shapes = {name: tuple(value.shape) for name, value in encoder.state_dict().items()}
    block = {n[15:]: s for n, s in shapes.items() if n.startswith("stack.blocks.0.")}
    c = 384
    assert block == {
        "norm1.weight": (c,),
        "norm1.bias": (c,),
        "attn.qkv.weight": (3 * c, c),
        "attn.proj.weight": (c, c),
        "attn.proj.bias": (c,),
        "norm2.weight": (c,),
        "norm2.bias": (c,),
        "mlp.fc1.weight": (4 * c, c),
        "mlp.fc1.bias": (4 * c,),
        "mlp.fc2.weight": (c, 4 * c),
        "mlp.fc2.bias": (c,),
    }
    assert sum(name.startswith("embed.") for name in shapes) == 18
    assert sum(name.startswith("pos.") for name in shapes) == 4


def test_layouts_of_point_m2ae():
    """Shapes that the converter of published weights will map, one to one (as kernel-1
    convolutions there)."""
    backbone = models.build_backbone(load_experiment("point-m2ae").model)
    shapes = {
        name: tuple(value.shape)
        for name, value in backbone.state_dict().items()
        if name.endswith("weight") and value.dim() == 2
    }

    def of(prefix: str) -> list[tuple[int, ...]]:
        return [shape for name, shape in shapes.items() if name.startswith(prefix)]

    trunk = "encoder.trunk."
    assert of(trunk + "embeds.0.") == [(128, 3), (256, 128), (512, 512), (96, 512)]
    assert of(trunk + "embeds.1.") == [(96, 96), (96, 96), (192, 192), (192, 192)]
    assert of(trunk + "embeds.2.") == [(192, 192), (192, 192), (384, 384), (384, 384)]
    assert [of(f"{trunk}pos.{i}.") for i in range(3)] == [[(c, 3), (c, c)] for c in (96, 192, 384)]
    block = {name: shape for name, shape in shapes.items() if "stacks.1.blocks.4." in name}
    assert [*block.values()] == [(576, 192), (192, 192), (768, 192), (192, 768)]
    assert of("decoder.propagate.") == [(192, 576), (192, 192), (192, 192)]
    assert [of(f"decoder.{name}.") for name in ("pos", "middle_pos", "head")] == [
        [(384, 3), (384, 384)], [(192, 3), (192, 192)], [(48, 192)]
    ]  # fmt: skip
