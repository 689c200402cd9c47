"""Tensor names of Point-M2AE's published code, and what their shapes tell."""

from __future__ import annotations

from typing import Any, Final

from sa3d.data.shapenet_parts import CATEGORIES
from sa3d.models.official import (
    CLASSIFIER_NEEDS,
    SEGMENTER_NEEDS,
    Inferred,
    Layout,
    Recipe,
    Row,
    Shapes,
    all_or_none,
    category_embed,
    count,
    known,
    part_head,
    patch_embed,
    propagation,
    size,
)
from sa3d.models.point_m2ae.settings import PointM2AEConfig

_SCALES: Final = range(3)
_SIZES: Final = tuple(PointM2AEConfig().group_sizes)
_SCAN_OBJECTS: Final = 15
_PARTS: Final = 50


def _architecture(shapes: Shapes, trunk: str) -> dict[str, Any]:
    return known(
        embed_width=size(shapes, f"{trunk}.embeds.0.point1.weight", 0),
        dims=all_or_none(size(shapes, f"{trunk}.pos.{i}.2.weight", 0) for i in _SCALES),
        depths=all_or_none(count(shapes, f"{trunk}.stacks.{i}.blocks") for i in _SCALES),
    )


def _pretrained(shapes: Shapes) -> Inferred:
    coordinates = size(shapes, "backbone.decoder.head.weight", 0)
    model = _architecture(shapes, "backbone.encoder.trunk") | known(
        decoder_depth=count(shapes, "backbone.decoder.stack.blocks"),
        # the sizes of the other two scales leave no trace
        group_sizes=coordinates and (coordinates // 3, *_SIZES[1:]),
    )
    return Inferred(model, {})


def _classifier(shapes: Shapes) -> Inferred:
    """Two features beside each other are ScanObjectNN's head, which leaves token 0 out of the
    maximum; one is ModelNet40's."""
    model = _architecture(shapes, "encoder")
    width, dim = size(shapes, "head.0.weight", 1), size(shapes, "norm.weight", 0)
    pooling = None
    if width is not None and dim is not None:
        pooling = "concat_skip_first" if width == 2 * dim else "sum"
    return Inferred(model, known(num_classes=size(shapes, "head.8.weight", 0), pooling=pooling))


def _segmenter(shapes: Shapes) -> Inferred:
    head = known(
        num_parts=size(shapes, "head.rest.9.weight", 0),
        num_categories=size(shapes, "category.lift.weight", 1),
    )
    return Inferred(_architecture(shapes, "encoder.trunk"), head)


def _trunk(ours: str) -> tuple[Row, ...]:
    rows: list[Row] = []
    for i in _SCALES:
        rows += patch_embed(f"h_encoder.token_embed.{i}", f"{ours}.embeds.{i}")
        rows += (
            Row(f"h_encoder.encoder_pos_embeds.{i}", f"{ours}.pos.{i}"),
            Row(f"h_encoder.encoder_blocks.{i}.blocks", f"{ours}.stacks.{i}.blocks"),
        )
    return tuple(rows)


_PROPAGATE: Final = "backbone.decoder.propagate"
_UNIT: Final = "token_prop.0.extraction.operation.0"
_STUDENT: Final = (
    Row("mask_token", "backbone.decoder.mask_token", "token"),
    *_trunk("backbone.encoder.trunk"),
    Row("h_encoder.encoder_norms", "backbone.encoder.norms"),
    Row("h_decoder.0.blocks", "backbone.decoder.stack.blocks"),
    Row("h_decoder.1.blocks", "backbone.decoder.middle_stack.blocks"),
    Row("decoder_pos_embeds.0", "backbone.decoder.pos"),
    Row("decoder_pos_embeds.1", "backbone.decoder.middle_pos"),
    Row("token_prop.0.fuse.net.0", f"{_PROPAGATE}.fuse", "conv"),
    Row("token_prop.0.fuse.net.1", f"{_PROPAGATE}.fuse_norm"),
    Row(f"{_UNIT}.net1.0", f"{_PROPAGATE}.unit1", "conv"),
    Row(f"{_UNIT}.net1.1", f"{_PROPAGATE}.unit1_norm"),
    Row(f"{_UNIT}.net2.0", f"{_PROPAGATE}.unit2", "conv"),
    Row(f"{_UNIT}.net2.1", f"{_PROPAGATE}.unit2_norm"),
    Row("decoder_norm", "backbone.decoder.norm"),
    Row("rec_head", "backbone.decoder.head", "conv"),
)
_CLASSIFICATION: Final = (
    *_trunk("encoder"),
    Row("norm", "norm"),
    Row("cls_head_finetune", "head"),
)
_SEGMENTATION: Final = (
    *_trunk("encoder.trunk"),
    Row("h_encoder.encoder_norms", "encoder.norms"),
    *category_embed("label_conv", "category"),
    *(row for i in _SCALES for row in propagation(f"propagations.{i}", f"propagate.{i}")),
    *part_head(4),
)
_SEGMENTING: Final = "part segmentation of ShapeNetPart"

LAYOUTS: Final = (
    Layout(
        name="point-m2ae/pretrain",
        title="Point-M2AE, pre-trained",
        kind="pretrain",
        container="base_model",
        rows=_STUDENT,
        infer=_pretrained,
        recipes={None: Recipe("pre-training on ShapeNet55", 2048, "subsample")},
    ),
    Layout(
        name="point-m2ae/classifier",
        title="Point-M2AE, classifier",
        kind="classifier",
        container="base_model",
        rows=_CLASSIFICATION,
        infer=_classifier,
        needs=CLASSIFIER_NEEDS,
        recipes={
            None: Recipe("classification of ModelNet40", 1024, "cloud"),
            _SCAN_OBJECTS: Recipe(
                "classification of ScanObjectNN", 2048, "none", {"group_sizes": (32, 16, 16)}
            ),
        },
    ),
    Layout(
        name="point-m2ae/segmenter",
        title="Point-M2AE, part segmentation",
        kind="segmenter",
        container="model_state_dict",
        rows=_SEGMENTATION,
        infer=_segmenter,
        needs=SEGMENTER_NEEDS,
        recipes={
            None: Recipe(_SEGMENTING, 2048, "cloud"),
            _PARTS: Recipe(
                _SEGMENTING,
                2048,
                "cloud",
                classes=tuple(each.name for each in CATEGORIES),
                parts=tuple(len(each.parts) for each in CATEGORIES),
            ),
        },
    ),
)
