"""Pre-training on the tiny experiment: what it leaves, and resume to the last bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from task_runs import (
    FINGERPRINT,
    context,
    do,
    interrupted,
    last_state,
    run_of,
    tiny_clouds,
    with_model,
)

from sa3d.checkpoints.card import WEIGHTS_FILE, model_card, model_digest
from sa3d.checkpoints.export import export_model, load_pretrained
from sa3d.config.experiment import ExperimentConfig
from sa3d.engine.checkpoint import Checkpoint
from sa3d.engine.random_state import seed_all
from sa3d.errors import CheckpointError
from sa3d.metrics import names as keys
from sa3d.models import build_backbone
from sa3d.runs.spec import RunSpec
from sa3d.tracking.journal import read_journal
from sa3d.viz.explain import load_explain

pytestmark = pytest.mark.usefixtures("one_thread")
MASKED = {"sa3df": 5, "random-masks": 4}  # of 8 at 0.6: SA3D floors the visible ones


def test_it_leaves_a_model_that_loads_strictly(
    trained: dict[str, Path], tiny_config: ExperimentConfig
) -> None:
    assert set(trained) == {"sa3df", "random-masks"}
    for variant, folder in trained.items():
        state = load_pretrained(folder, tiny_config.model)
        build_backbone(tiny_config.model).load_student(state)
        assert not any(name.startswith(("teacher", "knowledge_teacher")) for name in state)
        run = run_of(tiny_config, "pretrain", variant)
        card = model_card(folder)
        assert (card["kind"], card["fingerprint"]) == ("pretrain", FINGERPRINT)
        assert RunSpec.from_json(card["spec"]) == run.spec
        assert card["model"] == run.model.model_dump(mode="json")
        assert card["settings"] == run.settings.model_dump(mode="json")


def test_result_and_curves(trained: dict[str, Path]) -> None:
    result = json.loads((trained["sa3df"] / "result.json").read_text())
    assert (result["experiment"], result["spec"]["task"]) == ("tiny", "pretrain")
    assert result["spec"]["teacher"]["variant"] == "random-masks"
    assert result["protocol"]["method"] == "sa3df"
    assert result["protocol"]["teacher_decodes"] is True
    assert result["protocol"]["masked"] == MASKED["sa3df"]
    assert result["data"]["train"] == 96
    plain = json.loads((trained["random-masks"] / "result.json").read_text())
    assert plain["protocol"]["teacher_decodes"] is False
    assert plain["protocol"]["masked"] == MASKED["random-masks"]
    history = read_journal(trained["sa3df"])
    for name in (keys.LOSS, keys.FEATURE, keys.POINT, keys.GC, keys.HARD, keys.EMA_DECAY, keys.LR):
        assert len(history[name]) == 3, name
    assert keys.GC not in read_journal(trained["random-masks"])


def test_it_explains_six_classes(trained: dict[str, Path], tiny_root: Path) -> None:
    clouds = tiny_clouds(tiny_root)
    for variant, folder in trained.items():
        data = load_explain(folder / "explain.npz")
        assert len(data) == len(set(data.labels.tolist())) == 6
        assert data.mask.sum(1).tolist() == [MASKED[variant]] * 6
        assert not (data.hard & ~data.mask).any()
        assert data.class_names == clouds.class_names
        assert data.part_labels is not None
        # patches are those points, in the cloud's own coordinates
        at = data.points[0][data.patch_index[0]]
        assert np.abs(at[:, 0] - data.centers[0]).max() < 1e-6
    hard = load_explain(trained["sa3df"] / "explain.npz")
    assert hard.hard.sum(1).tolist() == [2] * 6  # floor(5 * 0.5)
    assert all(
        hard.gc[i][hard.hard[i]].min() >= hard.gc[i][~hard.hard[i]].max() for i in range(len(hard))
    )
    plain = load_explain(trained["random-masks"] / "explain.npz")
    assert not plain.hard.any()
    assert plain.gc is None


def test_it_is_repeatable(
    trained: dict[str, Path], tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    where = context(tiny, tmp_path / "again", teacher=trained["random-masks"])
    do(run_of(tiny_config, "pretrain"), where)
    assert model_digest(tmp_path / "again") == model_digest(trained["sa3df"])


@pytest.mark.parametrize(("every_step", "position"), [(False, (1, 0, 3)), (True, (1, 2, 5))])
def test_it_resumes_to_the_same_weights(
    trained: dict[str, Path],
    tiny: Path,
    tiny_config: ExperimentConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    every_step: bool,
    position: tuple[int, int, int],
) -> None:
    """From the end of an epoch and from the middle of one: SA3DF with its EMA teacher, stochastic
    depth and order of the data, to the last bit."""
    run = run_of(tiny_config, "pretrain", "sa3df")
    assert run.model.model_dump()["drop_path"] > 0
    monkeypatch.setattr(Checkpoint, "due", lambda self: every_step)
    folder = tmp_path / "cut"
    where = context(tiny, folder, teacher=trained["random-masks"])
    interrupted(monkeypatch, 5, lambda: do(run, where))
    assert not (folder / "result.json").exists()
    stood = last_state(folder)["position"]
    assert (stood["epoch"], stood["batch"], stood["step"]) == position
    seed_all(999)  # another process would begin with other random states
    do(run, context(tiny, folder, teacher=trained["random-masks"]))
    assert model_digest(folder) == model_digest(trained["sa3df"])
    whole, cut = last_state(trained["sa3df"]), last_state(folder)
    assert any(name.startswith("teacher.") for name in whole["method"])
    for name, value in whole["method"].items():  # teachers too
        assert torch.equal(value, cut["method"][name]), name
    moments = [
        [state["exp_avg_sq"] for state in found["optimiser"]["state"].values()]
        for found in (whole, cut)
    ]
    assert all(torch.equal(*pair) for pair in zip(*moments, strict=True))


# --- models that do not fit ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"dim": 32, "depth": 3}, r"depth=2 there, depth=3 here; dim=16 there, dim=32 here"),
        # the student reads the teacher's features patch by patch
        ({"group_size": 4}, r"group_size=8 there, group_size=4 here"),
    ],
)
def test_a_teacher_of_another_architecture_is_refused(
    trained: dict[str, Path],
    tiny: Path,
    tiny_config: ExperimentConfig,
    tmp_path: Path,
    changes: dict[str, object],
    told: str,
) -> None:
    run = with_model(run_of(tiny_config, "pretrain", "sa3df"), **changes)
    with pytest.raises(CheckpointError, match="was trained with another model: " + told):
        do(run, context(tiny, tmp_path, teacher=trained["random-masks"]))
    assert not (tmp_path / "result.json").exists()


def test_another_stochastic_depth_is_no_other_architecture(
    trained: dict[str, Path], tiny_config: ExperimentConfig
) -> None:
    model = tiny_config.model.model_copy(update={"drop_path": 0.0})
    assert load_pretrained(trained["sa3df"], model)


def test_damaged_weights(
    trained: dict[str, Path], tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    card = model_card(trained["sa3df"])
    state = safetensors.torch.load_file(trained["sa3df"] / "model" / WEIGHTS_FILE)
    export_model(tmp_path, state, {k: card[k] for k in ("kind", "model")})
    assert load_pretrained(tmp_path, tiny_config.model).keys() == state.keys()
    weights = tmp_path / WEIGHTS_FILE
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="is damaged: its sha256"):
        load_pretrained(tmp_path, tiny_config.model)


def test_a_classifier_is_no_pretrained_model(tiny_config: ExperimentConfig, tmp_path: Path) -> None:
    export_model(tmp_path, {"a": torch.zeros(1)}, {"kind": "classifier"})
    with pytest.raises(CheckpointError, match="holds a classifier, not a pre-trained model"):
        load_pretrained(tmp_path, tiny_config.model)
