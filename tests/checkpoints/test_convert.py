"""Published checkpoints made into models here: the same outputs, and back to the same file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from official_cases import CASES, GROUPS, POINTS, Case, made, reading, save
from plain_layers import shuffled
from torch import Tensor

from sa3d.checkpoints.card import model_card
from sa3d.checkpoints.convert import Reading, convert, convert_back
from sa3d.checkpoints.export import load_pretrained, read_weights
from sa3d.checkpoints.load import load_classifier, load_encoder, load_segmenter
from sa3d.checkpoints.renaming import Leniency
from sa3d.errors import CheckpointError
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
