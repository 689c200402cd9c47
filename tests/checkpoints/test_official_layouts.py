"""The tables of names, at full width and without memory: every published tensor has its place."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from official_cases import CASES, Case

from sa3d import models, registry
from sa3d.checkpoints.load import model_of
from sa3d.checkpoints.renaming import layouts, recognise, to_ours, to_theirs
from sa3d.methods.sa3d.gc_predictor import GCPredictor

LAYOUTS = layouts()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_tensor_of_the_full_model_has_its_place(case: Case, tmp_path) -> None:
    make, tensors, parameters = case.full
    with torch.device("meta"):
        published = make()
    state = published.state_dict()
    assert (len(state), sum(p.numel() for p in published.parameters())) == (tensors, parameters)
    assert recognise(state, "theirs", LAYOUTS) == case.layout

    backbone, layout = LAYOUTS[case.layout]
    renamed = to_ours(state, layout)
    assert renamed.unknown == ()
    assert len(renamed.state) == tensors
    back = to_theirs(renamed.state, layout)
    assert {n: v.shape for n, v in back.state.items()} == {n: v.shape for n, v in state.items()}
    assert back.unknown == ()

    inferred = layout.infer({name: tuple(v.shape) for name, v in renamed.state.items()})
    model = model_of({"model": {"backbone": backbone, **inferred.model}}, tmp_path)
    with torch.device("meta"):
        if layout.kind == "classifier":
            head = inferred.head
            ours = models.build_classifier(model, head["num_classes"], 0.5, head["pooling"])
            expected = ours.state_dict()
        elif layout.kind == "segmenter":
            expected = models.build_segmenter(model, 50, 16).state_dict()
        else:
            expected = {
                f"backbone.{n}": v for n, v in models.build_backbone(model).state_dict().items()
            }
            if "gc_depth" in inferred.head:
                gc = GCPredictor(384, inferred.head["gc_depth"], 6, 0.1).state_dict()
                expected |= {f"gc.{n}": v for n, v in gc.items()}
                norm = expected["backbone.encoder.norm.weight"]
                expected |= {f"official.norm_p.{n}": norm for n in ("weight", "bias")}
    shapes = {name: tuple(value.shape) for name, value in renamed.state.items()}
    assert shapes == {name: tuple(value.shape) for name, value in expected.items()}
    defaults = registry.settings_of(registry.BACKBONES, "backbone", backbone)()
    assert model == defaults, "what full-width tensors show are the defaults of the settings"


@pytest.mark.parametrize(
    ("case", "head"),
    [
        ("sa3df", {"gc_depth": 12}),
        ("sa3d", {"gc_depth": 4}),
        ("point-mae", {}),
        ("point-mae-classifier", {"num_classes": 40, "pooling": "cls_max"}),
        ("gm3d-classifier", {"num_classes": 15, "pooling": "cls_max"}),
        ("point-m2ae-modelnet", {"num_classes": 40, "pooling": "sum"}),
        ("point-m2ae-scan", {"num_classes": 15, "pooling": "concat_skip_first"}),
        ("point-mae-segmenter", {"num_parts": 50, "num_categories": 16}),
        ("point-m2ae-segmenter", {"num_parts": 50, "num_categories": 16}),
    ],
)
def test_tensors_show_what_the_model_is_built_with(case: str, head: dict[str, object]) -> None:
    with torch.device("meta"):
        state = CASES[case].full[0]().state_dict()
    layout = LAYOUTS[CASES[case].layout][1]
    renamed = to_ours(state, layout).state
    assert layout.infer({n: tuple(v.shape) for n, v in renamed.items()}).head == head
    assert set(layout.needs) == set(head)


@pytest.mark.parametrize("name", LAYOUTS)
def test_no_row_hides_another(name: str) -> None:
    """Names are unique on both sides, and none is the beginning of another: each tensor has one
    row at most, in whatever order the rows stand."""
    rows = LAYOUTS[name][1].rows
    for side in ("theirs", "ours"):
        starts = [f"{getattr(row, side)}." for row in rows]
        for one, other in combinations(starts, 2):
            assert not one.startswith(other), (one, other)
            assert not other.startswith(one), (one, other)


def test_names_are_compared_whole() -> None:
    """`norm_p` outside of the encoder is not the encoder's, whatever their names share."""
    layout = LAYOUTS["gm3d/pretrain"][1]
    state = {name: torch.zeros(1) for name in ("MAE_encoder.norm_p.weight", "norm_p.weight")}
    assert list(to_ours(state, layout).state) == [
        "backbone.encoder.norm.weight",
        "official.norm_p.weight",
    ]
    odd = {"norm_p2.weight": torch.zeros(1), "xnorm_p.weight": torch.zeros(1)}
    assert to_ours(odd, layout).unknown == tuple(odd)


@pytest.mark.parametrize(
    "names", [[], ["conv1.weight", "fc.bias"], ["MAE_encoder.x", "a", "b", "c"]]
)
def test_tensors_of_other_models_are_not_recognised(names: list[str]) -> None:
    assert recognise(names, "theirs", LAYOUTS) is None
