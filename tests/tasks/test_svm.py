"""The linear SVM: C chosen without test and without leaks, features of the frozen encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from task_runs import context, do, run_of, tiny_clouds, with_model

from sa3d.checkpoints.card import model_card
from sa3d.checkpoints.export import export_model, load_pretrained
from sa3d.config.experiment import ExperimentConfig
from sa3d.config.loading import load_experiment
from sa3d.engine.random_state import seed_all
from sa3d.errors import CheckpointError, TrainingError, UserError
from sa3d.metrics import names as keys
from sa3d.runs.fingerprint import locate
from sa3d.runs.launch import Options, launch
from sa3d.tasks.evaluation import fixed_batches, frozen_encoder
from sa3d.tasks.svm import search

pytestmark = pytest.mark.usefixtures("one_thread")


def test_svm(
    trained: dict[str, Path], tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    results = {}
    for name in ("sa3df", "scratch"):
        run = run_of(tiny_config, "svm", name)
        results[name] = do(run, context(tiny, tmp_path / name, start=trained.get(name)))
    result = results["sa3df"]
    assert set(result.metrics) == {
        keys.TEST_ACC,
        keys.TEST_OFFICIAL_C,
        keys.MEAN_CLASS_ACC,
        keys.VAL_ACC,
    }
    assert result.spec["start"]["variant"] == "sa3df"
    assert results["scratch"].spec["start"] is None
    protocol = result.protocol
    tried = protocol["c_accuracies"]
    assert set(tried) == {"as they are", "standardised"}
    assert all({"0.001", "0.01", "0.1", "1"} <= set(scores) for scores in tried.values())
    own = tried["standardised" if protocol["standardised"] else "as they are"]
    assert own[f"{protocol['c']:g}"] == max(max(scores.values()) for scores in tried.values())
    assert result.metrics[keys.VAL_ACC] == own[f"{protocol['c']:g}"]
    edges = {min(own, key=float), max(own, key=float)}
    assert protocol["c_at_bound"] == (f"{protocol['c']:g}" in edges)
    if protocol["c_at_bound"]:
        assert protocol["c"] in (search.LEAST, search.MOST)
    assert protocol["converged"] is True
    assert result.protocol["test_reads"] == 1
    assert result.protocol["encoder"] == "pre-trained"
    assert results["scratch"].protocol["encoder"] == "random weights, seed 1"
    assert (result.data["train"], result.data["test"]) == (96, 32)
    kept = np.load(tmp_path / "sa3df" / "outcomes.npz")
    assert kept["score"].mean() == result.metrics[keys.TEST_ACC]
    assert np.array_equal(kept["score"], kept["labels"] == kept["predicted"])
    clouds = tiny_clouds(tiny)
    assert np.array_equal(kept["labels"], clouds.labels[kept["index"]])
    assert np.array_equal(kept["family"], clouds.family[kept["index"]])
    matrix = np.array(result.details["confusion"]["matrix"])
    assert matrix.trace() / matrix.sum() == result.metrics[keys.TEST_ACC]
    assert matrix.sum(1).tolist() == [2] * 16


def test_several_processes_are_refused(
    tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    located = locate(run_of(tiny_config, "svm", "scratch"))
    with pytest.raises(UserError, match="sa3d svm runs in one process; start it without torchrun"):
        launch(located, Options(device="cpu", quiet=True), tmp_path)


# --- what the encoder is -------------------------------------------------------------------


def test_features_may_be_of_other_patches_than_pre_training_had(
    trained: dict[str, Path], tiny: Path, tmp_path: Path
) -> None:
    """Only the encoder is loaded, whose weights know nothing of the patches; the decoder's head
    predicts `group_size` points and would not fit."""
    overrides = ["evaluate.svm.model.groups=16", "evaluate.svm.model.group_size=12"]
    config = load_experiment("tiny", tiny / "params.yaml", overrides)
    run = run_of(config, "svm")
    where = context(tiny, tmp_path, start=trained["sa3df"])
    backbone = frozen_encoder(run, where)
    state = load_pretrained(trained["sa3df"], config.model)
    for name, value in backbone.encoder.state_dict().items():
        assert torch.equal(value, state[f"backbone.encoder.{name}"]), name
    assert backbone.num_tokens == 16
    points = next(fixed_batches(tiny_clouds(tiny), np.arange(2), run, 2).epoch(0)).points
    assert backbone.group(points).patches.shape == (2, 16, 12, 3)
    result = do(run, where)
    assert result.protocol["encoder"] == "pre-trained"
    assert result.metrics[keys.TEST_ACC] > 2 / 16, "chance is 1 of 16"


def test_random_weights_come_from_the_seed(
    tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    run = run_of(tiny_config, "svm", "scratch")
    where = context(tiny, tmp_path)
    states = []
    for seed in (1, 1, 2):
        seed_all(seed)
        states.append(frozen_encoder(run, where).encoder.state_dict())
    name = "stack.blocks.0.mlp.fc1.weight"
    assert torch.equal(states[0][name], states[1][name])
    assert not torch.equal(states[0][name], states[2][name])


def test_a_model_of_another_architecture(
    trained: dict[str, Path], tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    for task in ("svm", "classify"):
        run = with_model(run_of(tiny_config, task), dim=32, depth=3)
        with pytest.raises(CheckpointError, match=r"depth=2 there, depth=3 here; dim=16 there, d"):
            do(run, context(tiny, tmp_path / task, start=trained["sa3df"]))
        assert not (tmp_path / task / "result.json").exists()


def test_features_that_are_not_finite(
    trained: dict[str, Path], tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    card = model_card(trained["sa3df"])
    state = load_pretrained(trained["sa3df"], tiny_config.model)
    for name, value in state.items():
        if "norm" in name and value.is_floating_point():
            value.fill_(float("nan"))
    export_model(tmp_path / "bad", state, {k: card[k] for k in ("kind", "model")})
    with pytest.raises(TrainingError, match="training features are not finite"):
        do(run_of(tiny_config, "svm"), context(tiny, tmp_path / "run", start=tmp_path / "bad"))
