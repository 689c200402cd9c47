"""Checkpoints and settings that do not fit are refused; what no tensor shows can be given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from official_cases import CASES, GROUPS, POINTS, made, reading, save
from plain_layers import shuffled
from torch import Tensor, nn

from sa3d.checkpoints.card import model_card
from sa3d.checkpoints.convert import Reading, convert, convert_back
from sa3d.checkpoints.export import load_pretrained, read_weights
from sa3d.checkpoints.load import load_classifier, load_encoder, load_segmenter
from sa3d.checkpoints.renaming import Leniency
from sa3d.errors import CheckpointError, ConfigError, DataError

STRICT = Leniency()


@pytest.fixture
def student(tmp_path: Path) -> dict[str, Tensor]:
    return shuffled(CASES["sa3df"].make(), 7).state_dict()


def attempt(state: dict[str, Tensor], folder: Path, case: str = "sa3df", **more: Any) -> Any:
    file = save(folder / "a.pth", state, CASES[case].container)
    return convert(file, folder / "ours", reading(CASES[case], **more))


def test_missing_tensors_are_refused(student: dict[str, Tensor], tmp_path: Path) -> None:
    del student["MAE_encoder.norm_p.weight"]
    with pytest.raises(CheckpointError, match=r"\(gm3d/pretrain\) lacks MAE_encoder.norm_p.weight"):
        attempt(student, tmp_path)
    assert not (tmp_path / "ours").exists()


def test_even_the_unused_ones_are(student: dict[str, Tensor], tmp_path: Path) -> None:
    del student["norm_p.bias"]
    with pytest.raises(CheckpointError, match=r"lacks norm_p\.bias"):
        attempt(student, tmp_path)


def test_unknown_tensors_are_refused(student: dict[str, Tensor], tmp_path: Path) -> None:
    student["MAE_encoder.norm.weight"] = torch.ones(24)
    student["MAE_encoder.blocks.blocks.0.gate"] = torch.ones(1)
    with pytest.raises(CheckpointError) as caught:
        attempt(student, tmp_path)
    assert "has MAE_encoder.norm.weight, MAE_encoder.blocks.blocks.0.gate, for which" in str(
        caught.value
    )
    report = attempt(student, tmp_path, leniency=Leniency(strict=False))
    assert report.found.unexpected == (
        "MAE_encoder.norm.weight",
        "MAE_encoder.blocks.blocks.0.gate",
    )
    left = model_card(tmp_path / "ours")["official"]["left_out"]
    assert left == list(report.found.unexpected)
    load_encoder(tmp_path / "ours")


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("MAE_encoder.norm_p.bias", (25,), "(25,) instead of (24,)"),
        ("MAE_encoder.encoder.first_conv.3.weight", (16, 8, 3), "instead of (16, 8, 1)"),
        ("MAE_encoder.encoder.first_conv.3.weight", (16, 8), "(16, 8) instead of (16, 8, 1)"),
        ("increase_dim_2.1.num_batches_tracked", (1,), "(1,) instead of ()"),
    ],
)
def test_other_shapes_are_refused_whatever_is_allowed(
    student: dict[str, Tensor], tmp_path: Path, name: str, shape: tuple[int, ...], said: str
) -> None:
    student[name] = torch.ones(shape)
    for leniency in (STRICT, Leniency(("*",), strict=False)):
        with pytest.raises(CheckpointError) as caught:
            attempt(student, tmp_path, leniency=leniency)
        assert f"has {name} {tuple(shape)}" in str(caught.value)
        assert said in str(caught.value)


def test_what_may_be_missing_is_fresh_and_said(tmp_path: Path) -> None:
    case = CASES["point-mae-classifier"]
    state = shuffled(case.make(), 8).state_dict()
    kept = {name: value for name, value in state.items() if not name.startswith("cls_")}
    file = save(tmp_path / "a.pth", kept, "base_model")
    settings = (*case.settings, "head.num_classes=5")
    with pytest.raises(CheckpointError, match=r"no tensor shows num_classes; give --set head\."):
        convert(file, tmp_path / "a", Reading(settings=case.settings, layout=case.layout))
    allowed = Leniency(("cls_head_finetune.*", "cls_token"))
    with pytest.raises(CheckpointError, match=r"lacks cls_pos\."):
        convert(file, tmp_path / "a", Reading(case.layout, settings=settings, leniency=allowed))
    allowed = Leniency(("cls_*",))
    reports = [
        convert(file, tmp_path / name, Reading(case.layout, settings=settings, leniency=allowed))
        for name in ("a", "b")
    ]
    assert set(reports[0].fresh) == {
        name for name in load_classifier(tmp_path / "a")[0].state_dict() if "encoder" not in name
    }
    assert any("random weights" in line and "18" in line for line in reports[0].lines())
    states = [read_weights(tmp_path / n, model_card(tmp_path / n)) for n in ("a", "b")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert torch.equal(states[0]["encoder.norm.bias"], state["norm.bias"])
    assert model_card(tmp_path / "a")["official"]["fresh"] == list(reports[0].fresh)


def test_other_files_are_refused(tmp_path: Path) -> None:
    file = save(tmp_path / "a.pth", {"conv1.weight": torch.ones(2), "fc.bias": torch.ones(1)}, "")
    with pytest.raises(CheckpointError, match=r"of no layout known here .*point-m2ae/segmenter"):
        convert(file, tmp_path / "ours", Reading())
    with pytest.raises(CheckpointError, match="no layout 'resnet' for it; there is: point-mae/"):
        convert(file, tmp_path / "ours", Reading(layout="resnet"))


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    case = CASES["point-mae"]
    _, file = made(case, tmp_path)
    convert(file, tmp_path / "ours", reading(case))
    with pytest.raises(CheckpointError, match=r"model\.json is there already; choose another"):
        convert(file, tmp_path / "ours", reading(case))
    with pytest.raises(CheckpointError, match=r"published\.pth is there already"):
        convert_back(tmp_path / "ours", file, None, STRICT)


# --- settings ------------------------------------------------------------------------------


def test_what_tensors_do_not_show_can_be_given(tmp_path: Path) -> None:
    case = CASES["point-mae"]
    _, file = made(case, tmp_path)
    report = convert(file, tmp_path / "ours", reading(case))
    shown = {"embed_width": 8, "dim": 24, "depth": 3, "decoder_depth": 2, "group_size": 8}
    assert report.plan.shown["model"] == shown
    assert report.plan.assumed == {"drop_path": 0.1}
    card = model_card(tmp_path / "ours")
    assert card["model"] == {
        **shown, "backbone": "point-mae", "heads": 3, "groups": GROUPS, "drop_path": 0.1
    }  # fmt: skip
    assert card["preprocessing"] == {
        "points": POINTS,
        "normalisation": "subsample",
        "stored_points": None,
    }
    text = "\n".join(report.lines())
    assert "not in the file, taken from pre-training on ShapeNet55: drop_path=0.1" in text
    assert "model:\n  backbone: point-mae\n  groups: 12\n" in text


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ((), r"model: Value error, dim=32 is not a multiple of heads=6\. What no tensor shows"),
        (("model.heads=4", "model.head=2"), "model.head: Extra inputs"),
        (("model.heads=4", "model.dim=48"), r"has mask_token \(1, 1, 32\) instead of"),
        (("model.heads=4", "preprocessing.points=16"), "patches of this model need 64"),
        (("model.heads=4", "preprocessing.points=x"), "card has preprocessing"),
        (("model.heads=4", "data.points=16"), "--set data: a conversion has settings of"),
        (("model.heads=4", "head.depth=1"), r"head\.depth: point-mae/pretrain has"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    settings: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    from plain_point_mae import PointMAE

    state = shuffled(PointMAE(dim=32, depth=1, heads=4, width=8, size=8), 1).state_dict()
    file = save(tmp_path / "a.pth", state, "base_model")
    with pytest.raises((CheckpointError, ConfigError), match=said) as caught:
        convert(file, tmp_path / "ours", Reading(settings=settings))
    assert len(str(caught.value).splitlines()) <= 2


def test_provenance(tmp_path: Path) -> None:
    import hashlib

    case = CASES["sa3df"]
    _, file = made(case, tmp_path)
    convert(file, tmp_path / "ours", reading(case))
    told = json.loads((tmp_path / "ours" / "model.json").read_text())["official"]
    assert told["file"] == "published.pth"
    assert told["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (told["layout"], told["container"], told["epoch"]) == (
        "gm3d/pretrain",
        "state_dict",
        300,
    )
    assert told["shown"]["head"] == {"gc_depth": 3}
    assert told["given"]["model"]["heads"] == 3
    assert (told["fresh"], told["left_out"]) == ([], [])


def test_a_full_model_is_compared_with_the_default_section(tmp_path: Path) -> None:
    """Nobody has to type more than `backbone` for weights of the published sizes."""
    from plain_point_mae import PointMAE

    from sa3d.models.point_mae.settings import PointMAEConfig

    small = {"dim": 24, "width": 8}  # quick; the rest is published
    state = shuffled(PointMAE(**small), 1).state_dict()
    report = convert(save(tmp_path / "a.pth", state, ""), tmp_path / "ours", Reading())
    assert load_pretrained(tmp_path / "ours", PointMAEConfig(dim=24, embed_width=8))
    assert report.lines()[-4:] == [
        "model:", "  backbone: point-mae", "  embed_width: 8", "  dim: 24"
    ]  # fmt: skip


def test_a_segmenter_of_other_parts_needs_a_data_set(tmp_path: Path) -> None:
    from official_cases import ONE, SETTINGS, SIZE
    from plain_point_mae import Segmenter

    state = shuffled(Segmenter(7, 3, **ONE), 1).state_dict()
    file = save(tmp_path / "a.pth", state, "model_state_dict")
    with pytest.raises(CheckpointError, match=r"which of the 7 parts belong to .* give --data"):
        convert(file, tmp_path / "ours", Reading(settings=SETTINGS + SIZE))


def test_names_of_a_data_set(tiny: Path, tmp_path: Path) -> None:
    from official_cases import ONE, SETTINGS, SIZE
    from plain_point_mae import Classifier, Segmenter

    from sa3d.data.store import open_clouds
    from sa3d.utils.paths import processed

    clouds = open_clouds(processed("tiny"))
    given = Reading(settings=SETTINGS + SIZE, clouds=processed("tiny"))
    models: dict[str, nn.Module] = {
        "classes": Classifier(clouds.num_classes, **ONE),
        "parts": Segmenter(len(clouds.part_names), clouds.num_classes, **ONE),
    }
    for name, model in models.items():
        file = save(tmp_path / f"{name}.pth", shuffled(model, 1).state_dict(), "base_model")
        convert(file, tmp_path / name, given)
        card = model_card(tmp_path / name)
        assert card["class_names"] == list(clouds.class_names)
        assert card["preprocessing"]["normalisation"] == clouds.normalisation
        assert card["official"]["names"] == "tiny"
    assert load_segmenter(tmp_path / "parts")[1]["part_names"] == list(clouds.part_names)
    with pytest.raises(DataError, match="nowhere"):
        convert(file, tmp_path / "no", Reading(clouds=processed("nowhere")))
    other = shuffled(Classifier(3, **ONE), 1).state_dict()
    with pytest.raises(CheckpointError, match=r"tells 3 classes apart, the data set has 16"):
        convert(save(tmp_path / "o.pth", other, "base_model"), tmp_path / "other", given)
