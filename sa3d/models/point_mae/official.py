"""Tensor names of Point-MAE's and GM3D's published code, and what their shapes tell.

GM3D (SA3D and SA3DF on Point-MAE) calls the encoder's last LayerNorm ``norm_p``; it also has a
``norm_p`` outside of the encoder that nothing uses. Here each has a row of its own, so that the
unused one can never take the place of the trained one.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from sa3d.data.shapenet_parts import CATEGORIES
from sa3d.models.official import (
    CLASSIFIER_NEEDS,
    KEPT,
    SEGMENTER_NEEDS,
    Inferred,
    Layout,
    Recipe,
    Row,
    Shapes,
    category_embed,
    count,
    known,
    part_head,
    patch_embed,
    propagation,
    size,
)

_SCAN_OBJECTS: Final = 15
_PARTS: Final = 50
_SCANNED: Final = {"groups": 128, "group_size": 32}


def _architecture(shapes: Shapes, encoder: str) -> dict[str, Any]:
    return known(
        embed_width=size(shapes, f"{encoder}.embed.point1.weight", 0),
        dim=size(shapes, f"{encoder}.pos.2.weight", 0),
        depth=count(shapes, f"{encoder}.stack.blocks"),
    )


def _pretrained(shapes: Shapes) -> Inferred:
    coordinates = size(shapes, "backbone.decoder.head.weight", 0)
    model = _architecture(shapes, "backbone.encoder") | known(
        decoder_depth=count(shapes, "backbone.decoder.stack.blocks"),
        group_size=coordinates and coordinates // 3,
    )
    return Inferred(model, {})


def _pretrained_with_gc(shapes: Shapes) -> Inferred:
    head = known(gc_depth=count(shapes, "gc.stack.blocks"))
    return Inferred(_pretrained(shapes).model, head)


def _classifier(shapes: Shapes) -> Inferred:
    head = known(num_classes=size(shapes, "head.8.weight", 0))
    return Inferred(_architecture(shapes, "encoder"), head | {"pooling": "cls_max"})


def _segmenter(shapes: Shapes) -> Inferred:
    head = known(
        num_parts=size(shapes, "head.rest.6.weight", 0),
        num_categories=size(shapes, "category.lift.weight", 1),
    )
    return Inferred(_architecture(shapes, "encoder"), head)


def _encoder(theirs: str, ours: str, norm: str, embed: str) -> tuple[Row, ...]:
    """Embedding, positions, blocks and LayerNorm. ``theirs`` ends with a dot, or is empty."""
    return (
        *patch_embed(theirs + embed, f"{ours}.embed"),
        Row(f"{theirs}pos_embed", f"{ours}.pos"),
        Row(f"{theirs}blocks.blocks", f"{ours}.stack.blocks"),
        Row(f"{theirs}{norm}", f"{ours}.norm"),
    )


def _student(norm: str, head: str) -> tuple[Row, ...]:
    """Encoder and decoder of a pre-trained model."""
    return (
        Row("mask_token", "backbone.decoder.mask_token"),
        *_encoder("MAE_encoder.", "backbone.encoder", norm, "encoder"),
        Row("decoder_pos_embed", "backbone.decoder.pos"),
        Row("MAE_decoder.blocks", "backbone.decoder.stack.blocks"),
        Row("MAE_decoder.norm", "backbone.decoder.norm"),
        Row(head, "backbone.decoder.head", "conv"),
    )


_GC: Final = (
    Row("mask_token_loss_pred", "gc.mask_token"),
    Row("MAE_decoder_loss_pred.blocks", "gc.stack.blocks"),
    Row("MAE_decoder_loss_pred.norm", "gc.norm"),
    Row("increase_dim_2.0", "gc.hidden", "conv"),
    Row("increase_dim_2.1", "gc.hidden_norm"),
    Row("increase_dim_2.3", "gc.out", "conv"),
    Row("norm_p", f"{KEPT}.norm_p"),
)


def _classification(norm: str) -> tuple[Row, ...]:
    return (
        Row("cls_token", "cls_token"),
        Row("cls_pos", "cls_pos"),
        *_encoder("", "encoder", norm, "encoder"),
        Row("cls_head_finetune", "head"),
    )


_SEGMENTATION: Final = (
    *_encoder("", "encoder", "norm", "encoder"),
    *category_embed("label_conv", "category"),
    *propagation("propagation_0", "propagate"),
    *part_head(3),
)

_PRETRAINING: Final[dict[int | None, Recipe]] = {
    None: Recipe("pre-training on ShapeNet55", 1024, "subsample")
}
_CLASSIFICATION: Final = {
    None: Recipe("classification of ModelNet40", 1024, "cloud"),
    _SCAN_OBJECTS: Recipe("classification of ScanObjectNN", 2048, "none", _SCANNED),
}
_SHAPENET_PART: Final = Recipe(
    "part segmentation of ShapeNetPart",
    2048,
    "cloud",
    _SCANNED,
    tuple(each.name for each in CATEGORIES),
    tuple(len(each.parts) for each in CATEGORIES),
)
_SEGMENTING: Final = {
    None: Recipe("part segmentation of ShapeNetPart", 2048, "cloud", _SCANNED),
    _PARTS: _SHAPENET_PART,
}

_classify = partial(
    Layout,
    kind="classifier",
    infer=_classifier,
    recipes=_CLASSIFICATION,
    needs=CLASSIFIER_NEEDS,
)

LAYOUTS: Final = (
    Layout(
        name="point-mae/pretrain",
        title="Point-MAE, pre-trained",
        kind="pretrain",
        container="base_model",
        rows=_student("norm", "increase_dim.0"),
        infer=_pretrained,
        recipes=_PRETRAINING,
    ),
    Layout(
        name="gm3d/pretrain",
        title="GM3D (SA3D or SA3DF on Point-MAE), pre-trained",
        kind="pretrain",
        container="state_dict",
        rows=(*_student("norm_p", "increase_dim_just_network_without_feature.0"), *_GC),
        infer=_pretrained_with_gc,
        recipes=_PRETRAINING,
        needs=("gc_depth",),
        unused={f"{KEPT}.norm_p": "backbone.encoder.norm"},
    ),
    _classify(
        name="point-mae/classifier",
        title="Point-MAE, classifier",
        container="base_model",
        rows=_classification("norm"),
    ),
    _classify(
        name="gm3d/classifier",
        title="GM3D (Point-MAE), classifier",
        container="state_dict",
        rows=_classification("norm_p"),
    ),
    Layout(
        name="point-mae/segmenter",
        title="Point-MAE, part segmentation",
        kind="segmenter",
        container="model_state_dict",
        rows=_SEGMENTATION,
        infer=_segmenter,
        recipes=_SEGMENTING,
        needs=SEGMENTER_NEEDS,
    ),
)
