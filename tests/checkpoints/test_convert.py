"""Published checkpoints made into models here: the same outputs, and back to the same file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from official_cases import CASES, GROUPS, POINTS, Case, made, reading, save
from plain_layers import shuffled
from torch import Tensor, nn

from sa3d.checkpoints.card import model_card
from sa3d.checkpoints.convert import Reading, convert, convert_back
from sa3d.checkpoints.export import load_pretrained, read_weights
from sa3d.checkpoints.load import load_classifier, load_encoder, load_segmenter
from sa3d.checkpoints.renaming import Leniency
from sa3d.errors import CheckpointError, ConfigError, DataError
from sa3d.inference.serving import FeatureModel
from sa3d.masking.base import Mask
from sa3d.methods.sa3d.gc_predictor import GCPredictor

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
MASKED = 7
STRICT = Leniency()


def clouds(count: int = 3) -> Tensor:
    return torch.randn(count, POINTS, 3, generator=torch.Generator().manual_seed(1)) * 0.5


def mask(count: int = 3) -> Mask:
    generator = torch.Generator().manual_seed(2)
    order = torch.rand(count, GROUPS, generator=generator).argsort(1)
    return Mask.of(order < MASKED, MASKED)


def of(kind: str) -> Any:
    chosen = {name: case for name, case in CASES.items() if kind in case.layout}
    return pytest.mark.parametrize("case", chosen.values(), ids=chosen)


# --- the same outputs ----------------------------------------------------------------------


@torch.no_grad()
@of("/pretrain")
def test_a_pretrained_model_encodes_and_rebuilds_as_published(case: Case, tmp_path: Path) -> None:
    plain, file = made(case, tmp_path)
    convert(file, tmp_path / "out", reading(case))
    backbone, card = load_encoder(tmp_path / "out")
    points, hidden = clouds(), mask()
    groups = backbone.group(points)
    encoded = backbone.encode(groups, hidden)
    rebuilt = backbone.reconstruct(backbone.decode(encoded, groups, hidden), groups, hidden)
    for number, cloud in enumerate(points):
        tokens, expected = plain(cloud, hidden.flags[number])
        assert tokens.std() > 0.1
        torch.testing.assert_close(encoded.tokens[number], tokens, **CLOSE)
        if isinstance(expected, dict):  # by patch of the middle scale; ours by coarse patch
            expected = _by_coarse_patch(expected, groups.index[number][hidden.masked[number]])
        torch.testing.assert_close(rebuilt[number], expected, equal_nan=True, **CLOSE)
    if "gm3d" in case.layout:
        predictor = _predictor(tmp_path / "out", card)
        positions = backbone.decoder.pos(
            groups.centers.gather(1, hidden.order[:, :, None].expand(-1, -1, 3))
        )
        scores = predictor(encoded.tokens, positions)
        for number, cloud in enumerate(points):
            torch.testing.assert_close(
                scores[number], plain.scores(cloud, hidden.flags[number]), **CLOSE
            )


def _by_coarse_patch(points: dict[int, Tensor], members: Tensor) -> Tensor:
    nothing = torch.full_like(next(iter(points.values())), torch.nan)
    rows = [torch.cat([points.get(int(m), nothing) for m in row]) for row in members]
    return torch.stack(rows)


def _predictor(folder: Path, card: dict[str, Any]) -> GCPredictor:
    depth = card["official"]["shown"]["head"]["gc_depth"]
    predictor = GCPredictor(card["model"]["dim"], depth, 3, 0.1)
    state = read_weights(folder, card)
    own = {name[3:]: value for name, value in state.items() if name.startswith("gc.")}
    predictor.load_state_dict(own)
    return predictor.eval()


@torch.no_grad()
@of("/classifier")
def test_a_classifier_gives_the_published_logits(case: Case, tmp_path: Path) -> None:
    plain, file = made(case, tmp_path)
    convert(file, tmp_path / "out", reading(case))
    classifier, card = load_classifier(tmp_path / "out")
    found = classifier(clouds())
    expected = torch.stack([plain(cloud) for cloud in clouds()])
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, **CLOSE)
    assert len(card["class_names"]) == expected.shape[1]


@torch.no_grad()
@of("/segmenter")
def test_a_segmenter_gives_the_published_logits(case: Case, tmp_path: Path) -> None:
    plain, file = made(case, tmp_path)
    convert(file, tmp_path / "out", reading(case))
    segmenter, card = load_segmenter(tmp_path / "out")
    found = segmenter(clouds(), torch.tensor([3, 0, 15]))
    expected = torch.stack([plain(cloud, c) for cloud, c in zip(clouds(), (3, 0, 15), strict=True)])
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, **CLOSE)
    assert card["class_names"][:2] == ["Airplane", "Bag"]
    assert card["class_parts"][:3] == [[0, 1, 2, 3], [4, 5], [6, 7]]
    assert card["class_parts"][15] == [47, 48, 49]
    assert card["part_names"][47] == "Table/0"


@torch.no_grad()
def test_the_first_token_counts_in_the_other_pooling(tmp_path: Path) -> None:
    """What the published ScanObjectNN head leaves out, by a slip, `concat` counts."""
    case = CASES["point-m2ae-scan"]
    _, file = made(case, tmp_path)
    convert(file, tmp_path / "slip", reading(case))
    clean = (*case.settings, "head.pooling=concat")
    convert(file, tmp_path / "clean", Reading(settings=clean))
    slip, _ = load_classifier(tmp_path / "slip")
    clean, _ = load_classifier(tmp_path / "clean")
    seen = []
    clean.head.register_forward_hook(lambda _, args, __: seen.append(args[0]))
    slip.head.register_forward_hook(lambda _, args, __: seen.append(args[0]))
    clean(clouds())
    slip(clouds())
    assert torch.equal(seen[0][:, :24], seen[1][:, :24])
    assert (seen[0][:, 24:] >= seen[1][:, 24:]).all()
    assert not torch.equal(seen[0], seen[1])


@torch.no_grad()
def test_a_converted_encoder_is_served(tmp_path: Path) -> None:
    """The published feature of a frozen encoder: mean and maximum over all tokens, added."""
    case = CASES["point-m2ae"]
    plain, file = made(case, tmp_path)
    convert(file, tmp_path / "out", reading(case))
    found = FeatureModel(tmp_path / "out").predict(clouds().numpy())
    for number, cloud in enumerate(clouds()):
        centred = cloud - cloud.mean(0)
        tokens = plain.tokens(centred / centred.norm(dim=1).max())
        expected = tokens.mean(0) + tokens.max(0).values
        torch.testing.assert_close(torch.from_numpy(found[number]), expected, **CLOSE)


# --- every tensor --------------------------------------------------------------------------


def published_state(file: Path, container: str) -> dict[str, Tensor]:
    tree = torch.load(file, weights_only=True)
    return tree[container] if container else tree


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Bit for bit: NaN is NaN, -0.0 is not 0.0."""
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert (found[name].shape, found[name].dtype) == (value.shape, value.dtype), name
        bits = [t.contiguous().reshape(-1).view(torch.uint8) for t in (found[name], value)]
        assert torch.equal(*bits), name


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_there_and_back_is_the_identity(case: Case, tmp_path: Path) -> None:
    model = shuffled(case.make(), 3)
    state = model.state_dict()
    next(iter(state.values())).flatten()[:2] = torch.tensor([float("nan"), -0.0])
    words = {"model": "a text, no weights"}
    file = save(tmp_path / "a.pth", state, case.container, "module.", **words)
    report = convert(file, tmp_path / "ours", reading(case))
    assert (report.layout.name, report.container) == (case.layout, case.container)
    assert len(report.found.loaded) == len(state)
    convert_back(tmp_path / "ours", tmp_path / "b.pth", None, STRICT)
    tree = torch.load(tmp_path / "b.pth", weights_only=True)
    assert tree["epoch"] == 300
    same(tree[case.container], state)


def test_weights_that_are_the_file_are_so_again(tmp_path: Path) -> None:
    case = CASES["gm3d-classifier"]
    state = shuffled(case.make(), 3).state_dict()
    report = convert(save(tmp_path / "a.pth", state, ""), tmp_path / "ours", reading(case))
    assert (report.layout.name, report.container, report.epoch) == (case.layout, "", None)
    convert_back(tmp_path / "ours", tmp_path / "b.pth", None, STRICT)
    same(torch.load(tmp_path / "b.pth", weights_only=True), state)


def test_half_precision_is_kept(tmp_path: Path) -> None:
    case = CASES["sa3df"]
    state = {
        name: value.half() if value.is_floating_point() else value
        for name, value in shuffled(case.make(), 4).state_dict().items()
    }
    convert(save(tmp_path / "a.pth", state, "state_dict"), tmp_path / "ours", reading(case))
    ours = read_weights(tmp_path / "ours", model_card(tmp_path / "ours"))
    assert {value.dtype for value in ours.values()} == {torch.float16, torch.int64}
    assert load_encoder(tmp_path / "ours")[0].encoder.norm.weight.dtype == torch.float32
    convert_back(tmp_path / "ours", tmp_path / "b.pth", None, STRICT)
    same(published_state(tmp_path / "b.pth", "state_dict"), state)


def test_tensors_that_share_memory_are_kept_apart(tmp_path: Path) -> None:
    case = CASES["point-mae"]
    state = shuffled(case.make(), 4).state_dict()
    state["MAE_decoder.norm.weight"] = state["MAE_encoder.norm.weight"]
    convert(save(tmp_path / "a.pth", state, "base_model"), tmp_path / "ours", reading(case))
    convert_back(tmp_path / "ours", tmp_path / "b.pth", None, STRICT)
    same(published_state(tmp_path / "b.pth", "base_model"), state)


def test_the_trained_norm_of_the_encoder_survives(tmp_path: Path) -> None:
    """GM3D's own fine-tuning overwrote it with the unused `norm_p` beside it."""
    case = CASES["sa3df"]
    plain, file = made(case, tmp_path)
    convert(file, tmp_path / "ours", reading(case))
    state = load_pretrained(tmp_path / "ours", load_settings(tmp_path / "ours"))
    norm = plain.MAE_encoder.norm_p
    assert torch.equal(state["backbone.encoder.norm.weight"], norm.weight)
    assert torch.equal(state["backbone.encoder.norm.bias"], norm.bias)
    assert torch.equal(state["official.norm_p.weight"], plain.norm_p.weight)
    assert not torch.equal(norm.weight, plain.norm_p.weight)


def load_settings(folder: Path) -> Any:
    from sa3d.checkpoints.load import model_of

    return model_of(model_card(folder), folder)


def test_the_moving_average_on_request(tmp_path: Path) -> None:
    case = CASES["sa3d"]
    weights, average = (shuffled(case.make(), seed).state_dict() for seed in (5, 6))
    file = save(tmp_path / "a.pth", weights, "state_dict", ema_state_dict=average)
    convert(file, tmp_path / "weights", reading(case))
    convert(file, tmp_path / "average", reading(case, ema=True))
    for name, expected in (("weights", weights), ("average", average)):
        convert_back(tmp_path / name, tmp_path / f"{name}.pth", None, STRICT)
        same(published_state(tmp_path / f"{name}.pth", "state_dict"), expected)
    other = save(tmp_path / "b.pth", weights, "state_dict")
    with pytest.raises(CheckpointError, match="has no ema_state_dict; leave --ema out"):
        convert(other, tmp_path / "none", reading(case, ema=True))


# --- what does not fit ---------------------------------------------------------------------


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
