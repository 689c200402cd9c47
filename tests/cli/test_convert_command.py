"""``sa3d convert``, and what is done with a converted model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from sa3d.checkpoints.export import export_model
from sa3d.cli.main import app
from sa3d.config.loading import load_experiment
from sa3d.methods.build import build_method
from sa3d.models import build_backbone, build_classifier
from sa3d.utils.paths import work


def sa3d(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == code, done.output + repr(done.exception)
    return done.stdout if code == 0 else done.stderr


def own_model(folder: Path, method: str, model: dict[str, Any] | None = None) -> Path:
    """A pre-trained model of the tiny experiment, as `sa3d pretrain` exports it."""
    sets = [f"model={json.dumps(model)}"] if model else []
    config = load_experiment("tiny", overrides=sets)
    settings = config.methods[method]
    teacher = build_backbone(config.model) if settings.has_teacher else None
    torch.manual_seed(1)
    state = build_method(settings, config.model, teacher).student_state()
    card = {"kind": "pretrain", "model": config.model.model_dump(mode="json")}
    export_model(folder / "model", state, card)
    return folder


GIVEN = ["--set", "model.heads=2", "--set", "model.groups=8", "--set", "preprocessing.points=64"]


@pytest.fixture
def published(tiny: Path, tmp_path: Path) -> Path:
    """A published Point-MAE of the tiny experiment's size, that was written by the command."""
    own_model(tmp_path / "made-here", "random-masks")
    sa3d("convert", tmp_path / "made-here", "--to", "official", "--out", tmp_path / "a.pth")
    return tmp_path / "a.pth"


def test_both_ways(published: Path, tmp_path: Path) -> None:
    said = sa3d("convert", published, "--out", tmp_path / "ours", *GIVEN)
    assert "point-mae/pretrain: Point-MAE, pre-trained; weights in base_model" in said
    assert "given: model: heads=2, groups=8" in said
    assert "clouds: points=64, normalisation=subsample" in said
    section = said[said.index("model:\n  backbone") : said.index(str(tmp_path / "ours"))]
    values = yaml.safe_load(section)["model"]
    assert values == {
        **{"backbone": "point-mae", "groups": 8, "group_size": 8, "embed_width": 8},
        **{"dim": 16, "depth": 2, "heads": 2, "decoder_depth": 1},
    }
    again = tmp_path / "b.pth"
    assert sa3d("convert", tmp_path / "ours", "--to", "official", "--out", again, "-q") == ""
    one, other = (torch.load(path, weights_only=True)["base_model"] for path in (published, again))
    assert set(one) == set(other)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_student_of_this_program_becomes_one_of_gm3d(tiny: Path, tmp_path: Path) -> None:
    """What GM3D has beside it, and never uses, is written as it begins there."""
    own_model(tmp_path / "run", "sa3df")
    said = sa3d("convert", tmp_path / "run", "--to", "official", "--out", tmp_path / "a.pth")
    assert "gm3d/pretrain" in said
    assert "as at first        2  official.norm_p.weight, official.norm_p.bias" in said
    state = torch.load(tmp_path / "a.pth", weights_only=True)["state_dict"]
    assert torch.equal(state["norm_p.weight"], torch.ones(16))
    assert torch.equal(state["norm_p.bias"], torch.zeros(16))
    assert {"mask_token_loss_pred", "MAE_encoder.norm_p.weight", "increase_dim_2.3.bias"} < set(
        state
    )
    plain = "point-mae/pretrain"
    out = ["--to", "official", "--layout", plain, "--out", tmp_path / "plain.pth"]
    assert "for which there is no place" in sa3d("convert", tmp_path / "run", *out, code=2)
    said = sa3d("convert", tmp_path / "run", *out, "--no-strict")
    assert "(left out)" in said
    assert "MAE_encoder.norm.weight" in torch.load(tmp_path / "plain.pth")["base_model"]


def test_what_was_never_published_has_no_place(tiny: Path, tmp_path: Path) -> None:
    """There is no published code for a GC predictor on Point-M2AE."""
    model = {
        "backbone": "point-m2ae",
        **{"groups": [32, 16, 8], "group_sizes": [8, 4, 4], "dims": [8, 12, 16]},
        **{"depths": [1, 1, 1], "heads": 2, "embed_width": 4},
    }
    run, out = own_model(tmp_path / "run", "sa3df", model), tmp_path / "a.pth"
    said = sa3d("convert", run, "--to", "official", "--out", out, code=2)
    assert "(point-m2ae/pretrain) has " in said
    assert "gc." in said
    sa3d("convert", run, "--to", "official", "--out", out, "--no-strict")
    assert len(torch.load(out)["base_model"]) == 293 - 12 * 11  # blocks fewer


def test_a_pooling_that_published_code_has_not_is_said(tiny: Path, tmp_path: Path) -> None:
    model = {
        "backbone": "point-m2ae",
        **{"groups": [32, 16, 8], "group_sizes": [8, 4, 4], "dims": [8, 12, 16]},
        **{"depths": [1, 1, 1], "heads": 2, "embed_width": 4},
    }
    settings = load_experiment("tiny", overrides=[f"model={json.dumps(model)}"]).model
    for pooling in ("concat", "concat_skip_first", "sum"):
        card = {
            "kind": "classifier",
            "model": settings.model_dump(mode="json"),
            "settings": {"dropout": 0.5, "pooling": pooling},
            "class_names": ["a", "b", "c"],
        }
        state = build_classifier(settings, 3, 0.5, pooling).state_dict()
        export_model(tmp_path / pooling, state, card)
        out = tmp_path / f"{pooling}.pth"
        said = sa3d("convert", tmp_path / pooling, "--to", "official", "--out", out)
        warned = "trained with concat; published code computes concat_skip_first" in said
        assert warned == (pooling == "concat")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "official", "--ema"], "--ema, --set, --data and --trust are for reading"),
        (["--to", "official"], "no exported model in"),
        ([], "cannot read"),
    ],
)
def test_mistakes(words: list[str], said: str, tiny: Path, tmp_path: Path) -> None:
    found = sa3d("convert", tmp_path / "none", "--out", tmp_path / "out", *words, code=2)
    assert said in found
    assert len(found.strip().splitlines()) <= 2


@pytest.mark.slow
def test_a_converted_encoder_is_evaluated_and_teaches(published: Path, tmp_path: Path) -> None:
    """Somebody else's weights as a variant of an experiment, by nothing but their folder."""
    sa3d("convert", published, "--out", tmp_path / "ours", *GIVEN)
    sets = ["--set", f"variants.theirs.checkpoint={tmp_path / 'ours'}", "-q"]
    sa3d("svm", "-e", "tiny", "--variant", "theirs", *sets)
    (folder,) = work().glob("svm-tiny-theirs-*")
    result = json.loads((folder / "result.json").read_text())
    assert 0 < result["metrics"]["test/acc"] <= 1
    taught = [*sets, "--set", "variants.sa3df.teacher=theirs", "--set", "variants.sa3df.epochs=2"]
    sa3d("pretrain", "-e", "tiny", "--variant", "sa3df", *taught)
    (folder,) = work().glob("pretrain-tiny-sa3df-*")
    assert str(tmp_path / "ours") in (folder / "config.json").read_text()
    sa3d("svm", "-e", "tiny", "--variant", "theirs", *sets, "--set", "model.heads=4", code=2)
