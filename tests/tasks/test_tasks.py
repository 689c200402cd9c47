"""Each task end to end on the tiny experiment: results, honesty of the protocol, resume."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from sa3d.checkpoints.export import export_model, load_pretrained
from sa3d.config.experiment import ExperimentConfig
from sa3d.data.split import train_val_test
from sa3d.data.store import open_clouds
from sa3d.engine.checkpoint import Checkpoint
from sa3d.engine.distributed import Processes
from sa3d.engine.loop import Trainer
from sa3d.engine.random_state import seed_all
from sa3d.errors import CheckpointError, DataError, TrainingError, UserError
from sa3d.metrics import names as keys
from sa3d.models import build_backbone
from sa3d.registry import TASKS, load
from sa3d.runs import fingerprint as fp
from sa3d.runs.context import Result, RunContext
from sa3d.tasks import classify, linear_svm
from sa3d.tracking.journal import Journal, read_journal
from sa3d.viz.explain import load_explain

pytestmark = pytest.mark.usefixtures("one_thread")


def context(root: Path, run_dir: Path, **changes: Any) -> RunContext:
    values: dict[str, Any] = {
        "run_dir": run_dir,
        "fingerprint": "0123456789abcdef",
        "device": torch.device("cpu"),
        "tracker": Journal(run_dir),
        "arm": "method",
        "clouds_path": root / "data" / "processed" / "tiny.h5",
        "quiet": True,
    }
    return RunContext(**values | changes)


def do(task: str, config: ExperimentConfig, run: RunContext) -> Result:
    result: Result = load(TASKS, "task", task)(config, run)
    stored = json.loads((run.run_dir / "result.json").read_text())
    assert stored["metrics"] == result.metrics
    for path in result.artifacts.values():
        assert (run.run_dir / path).exists(), path
    return result


@pytest.fixture(scope="module")
def trained(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run folders of the tiny baseline and of sa3df distilling it."""
    from sa3d.config.loading import load_experiment

    config = load_experiment("tiny", tiny_root / "params.yaml")
    work = tmp_path_factory.mktemp("work")
    do("pretrain", config, context(tiny_root, work / "baseline", arm="baseline"))
    run = context(tiny_root, work / "method", knowledge_teacher=work / "baseline")
    do("pretrain", config, run)
    return {"baseline": work / "baseline", "method": work / "method"}


# --- pre-training --------------------------------------------------------------------------


def test_pretrain_leaves_a_model_that_loads_strictly(
    trained: dict[str, Path], tiny_config: ExperimentConfig
) -> None:
    for arm, folder in trained.items():
        state = load_pretrained(folder, tiny_config.model)
        build_backbone(tiny_config.model).load_student(state)
        assert not any(name.startswith(("teacher", "knowledge_teacher")) for name in state)
        card = fp.model_card(folder)
        assert (card["kind"], card["arm"], card["fingerprint"]) == (
            "pretrain",
            arm,
            "0123456789abcdef",
        )
        assert card["model"] == tiny_config.model.model_dump(mode="json")


def test_pretrain_result_and_curves(trained: dict[str, Path]) -> None:
    result = json.loads((trained["method"] / "result.json").read_text())
    assert (result["task"], result["arm"], result["experiment"]) == ("pretrain", "method", "tiny")
    assert result["protocol"]["method"] == "sa3df"
    assert result["protocol"]["masked"] == 5  # of 8 at 0.6: SA3D floors the visible ones
    assert result["data"]["train"] == 96
    history = read_journal(trained["method"])
    for name in (keys.LOSS, keys.FEATURE, keys.POINT, keys.GC, keys.HARD, keys.EMA_DECAY, keys.LR):
        assert len(history[name]) == 3, name
    assert keys.GC not in read_journal(trained["baseline"])


def test_pretrain_explains_six_classes(trained: dict[str, Path], tiny_root: Path) -> None:
    clouds = open_clouds(tiny_root / "data" / "processed" / "tiny.h5")
    for arm, folder in trained.items():
        data = load_explain(folder / "explain.npz")
        assert len(data) == len(set(data.labels.tolist())) == 6
        masked = 5 if arm == "method" else 4
        assert data.mask.sum(1).tolist() == [masked] * 6
        assert not (data.hard & ~data.mask).any()
        assert data.class_names == clouds.class_names
        assert data.part_labels is not None
        # patches are those points, in the cloud's own coordinates
        at = data.points[0][data.patch_index[0]]
        assert np.abs(at[:, 0] - data.centers[0]).max() < 1e-6
    hard = load_explain(trained["method"] / "explain.npz")
    assert hard.hard.sum(1).tolist() == [2] * 6  # floor(5 * 0.5)
    assert all(
        hard.gc[i][hard.hard[i]].min() >= hard.gc[i][~hard.hard[i]].max() for i in range(len(hard))
    )


def test_pretrain_is_repeatable(
    trained: dict[str, Path], tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    run = context(tiny, tmp_path / "again", knowledge_teacher=trained["baseline"])
    do("pretrain", tiny_config, run)
    assert fp.model_digest(tmp_path / "again") == fp.model_digest(trained["method"])


def interrupted(monkeypatch: pytest.MonkeyPatch, step: int, fit: Callable[[], Any]) -> None:
    """Run ``fit`` and break it off before optimiser step ``step``."""
    real = Trainer._step

    def stop(self: Trainer, epoch: int, group: list[Any]) -> None:
        if self._position.step == step:
            raise KeyboardInterrupt
        real(self, epoch, group)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", stop)
        with pytest.raises(KeyboardInterrupt):
            fit()


@pytest.mark.parametrize(("every_step", "position"), [(False, (1, 0, 3)), (True, (1, 2, 5))])
def test_pretrain_resumes_to_the_same_weights(
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
    assert tiny_config.model.drop_path > 0
    monkeypatch.setattr(Checkpoint, "due", lambda self: every_step)
    folder = tmp_path / "cut"
    run = context(tiny, folder, knowledge_teacher=trained["baseline"])
    interrupted(monkeypatch, 5, lambda: do("pretrain", tiny_config, run))
    assert not (folder / "result.json").exists()
    stood = last_state(folder)["position"]
    assert (stood["epoch"], stood["batch"], stood["step"]) == position
    seed_all(999)  # another process would begin with other random states
    again = context(tiny, folder, knowledge_teacher=trained["baseline"])
    do("pretrain", tiny_config, again)
    assert fp.model_digest(folder) == fp.model_digest(trained["method"])
    whole, cut = last_state(trained["method"]), last_state(folder)
    assert any(name.startswith("teacher.") for name in whole["method"])
    for name, value in whole["method"].items():  # teachers too
        assert torch.equal(value, cut["method"][name]), name
    moments = [
        [state["exp_avg_sq"] for state in found["optimiser"]["state"].values()]
        for found in (whole, cut)
    ]
    assert all(torch.equal(*pair) for pair in zip(*moments, strict=True))


def last_state(folder: Path) -> dict[str, Any]:
    state = Checkpoint(folder / "last.pt", "0123456789abcdef").load(torch.device("cpu"))
    assert state is not None
    return state


# --- SVM -----------------------------------------------------------------------------------


def test_svm(
    trained: dict[str, Path], tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    results = {}
    for name, init in (("method", trained["method"]), ("scratch", None)):
        run = context(tiny, tmp_path / name, arm=name, init=init)
        results[name] = do("svm", tiny_config, run)
    result = results["method"]
    assert set(result.metrics) == {
        keys.TEST_ACC,
        keys.TEST_OFFICIAL_C,
        keys.MEAN_CLASS_ACC,
        keys.VAL_ACC,
    }
    assert result.protocol["c"] in tiny_config.svm.c_grid
    assert result.protocol["test_reads"] == 1
    assert result.protocol["encoder"] == "pre-trained"
    assert results["scratch"].protocol["encoder"] == "random weights, seed 1"
    assert (result.data["train"], result.data["test"]) == (96, 32)
    kept = np.load(tmp_path / "method" / "predictions.npz")
    assert (kept["labels"] == kept["predicted"]).mean() == result.metrics[keys.TEST_ACC]
    assert result.confusion is not None
    matrix = np.array(result.confusion["matrix"])
    assert matrix.trace() / matrix.sum() == result.metrics[keys.TEST_ACC]
    assert matrix.sum(1).tolist() == [2] * 16


def test_c_is_chosen_without_test_and_without_family_leaks() -> None:
    """Four near-copies of each cloud, labels at random: only a leak could tell them apart."""
    rng = np.random.default_rng(0)
    family = np.repeat(np.arange(40), 4)
    labels = rng.integers(0, 2, 40)[family]
    inputs = rng.normal(size=(40, 30))[family] + 1e-3 * rng.normal(size=(160, 30))
    settings = ExperimentConfig.model_fields["svm"].default
    inputs = inputs.astype(np.float32)
    _, honest, kind = linear_svm.choose_c(inputs, labels, family, settings, 0)
    assert kind == "StratifiedGroupKFold"
    _, leaky, kind = linear_svm.choose_c(inputs, labels, np.arange(160), settings, 0)
    assert kind == "StratifiedKFold"
    assert max(leaky.values()) > 0.9
    assert max(honest.values()) < 0.75


def test_of_equal_cs_the_smallest_and_too_few_clouds() -> None:
    inputs = np.array([[0.0], [0.1], [9.0], [9.1]], dtype=np.float32)
    labels = np.array([0, 0, 1, 1])
    settings = ExperimentConfig.model_fields["svm"].default.model_copy(
        update={"folds": 2, "c_grid": (1.0, 10.0, 100.0)}
    )
    chosen, accuracies, _ = linear_svm.choose_c(inputs, labels, np.arange(4), settings, 0)
    assert set(accuracies.values()) == {1.0}
    assert chosen == 1.0
    with pytest.raises(DataError, match=r"svm.folds=3, but the smallest class has 2"):
        linear_svm.choose_c(
            inputs, labels, np.arange(4), settings.model_copy(update={"folds": 3}), 0
        )


def test_svm_refuses_several_processes(
    tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="one process"):
        do("svm", tiny_config, context(tiny, tmp_path, processes=Processes(0, 2)))


# --- classification ------------------------------------------------------------------------


class Reads:
    """Counts how often rows of the test split are read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path, seed: int, share: float):
        clouds = open_clouds(root / "data" / "processed" / "tiny.h5")
        self.splits = train_val_test(clouds, share, seed)
        self.seen: list[str] = []
        real = classify.fixed_batches

        def spy(clouds: Any, rows: Any, *rest: Any) -> Any:
            known = {"val": self.splits.val, "test": self.splits.test}
            self.seen += [name for name, own in known.items() if np.array_equal(own, rows)]
            return real(clouds, rows, *rest)

        monkeypatch.setattr(classify, "fixed_batches", spy)


def test_classify_reads_test_only_at_the_end(
    trained: dict[str, Path],
    tiny: Path,
    tiny_config: ExperimentConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads = Reads(monkeypatch, tiny, tiny_config.seed, tiny_config.data.val_fraction)
    result = do("classify", tiny_config, context(tiny, tmp_path / "c", init=trained["method"]))
    # validation once (its clouds are kept), then test for `last` and for `val-selected`
    assert reads.seen == ["val", "test", "test"]
    assert result.metrics[keys.TEST_ACC] == result.metrics[keys.TEST_VAL_SELECTED]
    assert keys.TEST_LAST in result.metrics
    assert keys.TEST_BEST not in result.metrics
    assert result.protocol["encoder"].startswith("pre-trained: ")
    history = read_journal(tmp_path / "c")
    assert len(history[keys.VAL_ACC]) == tiny_config.classify.epochs
    assert len(history[keys.TEST_ACC]) == 1
    assert keys.TEST_EPOCH not in history
    best = max(value for _, value in history[keys.VAL_ACC])
    assert result.metrics[keys.VAL_ACC] == best
    counts = result.data
    assert counts["train"] + counts["val"] == 96
    assert not set(reads.splits.val) & set(reads.splits.test)


def test_best_on_test_only_where_asked_for(
    tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    asked = tiny_config.model_copy(
        update={"classify": tiny_config.classify.model_copy(update={"test_every_epoch": True})}
    )
    result = do("classify", asked, context(tiny, tmp_path, arm="scratch"))
    curve = [value for _, value in read_journal(tmp_path)[keys.TEST_EPOCH]]
    assert len(curve) == asked.classify.epochs
    assert result.metrics[keys.TEST_BEST] == max(curve)
    assert result.protocol["test_reads"] == 1 + asked.classify.epochs
    assert result.protocol["encoder"] == "random weights, seed 1"


def test_classify_resumes_to_the_same_result(
    tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = do("classify", tiny_config, context(tiny, tmp_path / "whole", arm="scratch"))
    cut = tmp_path / "cut"
    steps = whole.protocol["steps"]
    run = context(tiny, cut, arm="scratch")
    interrupted(monkeypatch, steps - 1, lambda: do("classify", tiny_config, run))
    again = do("classify", tiny_config, context(tiny, cut, arm="scratch"))
    assert fp.model_digest(cut) == fp.model_digest(tmp_path / "whole")
    for name in (keys.TEST_ACC, keys.TEST_LAST, keys.VAL_ACC, keys.LOSS):
        assert again.metrics[name] == whole.metrics[name]


def test_classify_learns(tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path) -> None:
    easy = {"epochs": 25, "layer_decay": 1.0, "lr": 5e-3, "dropout": 0.0, "augment": "none"}
    settings = tiny_config.classify.model_copy(update=easy)
    longer = tiny_config.model_copy(update={"classify": settings})
    result = do("classify", longer, context(tiny, tmp_path, arm="scratch"))
    accuracy = [value for _, value in read_journal(tmp_path)[keys.TRAIN_ACC]]
    assert accuracy[-1] > 0.5, "chance is 1 of 16"
    assert result.metrics[keys.TEST_ACC] > 4 / 16
    assert result.protocol["selected_epoch"] <= 25


# --- bad input -----------------------------------------------------------------------------


def test_a_model_of_another_architecture(
    trained: dict[str, Path], tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    model = tiny_config.model.model_copy(update={"dim": 32, "depth": 3})
    other = tiny_config.model_copy(update={"model": model})
    for task in ("svm", "classify"):
        with pytest.raises(CheckpointError, match=r"depth=2 there, depth=3 here; dim=16 there, d"):
            do(task, other, context(tiny, tmp_path / task, init=trained["method"]))
        assert not (tmp_path / task / "result.json").exists()
    run = context(tiny, tmp_path / "p", knowledge_teacher=trained["baseline"])
    with pytest.raises(CheckpointError, match="was trained with another model"):
        do("pretrain", other, run)


def test_another_stochastic_depth_is_no_other_architecture(
    trained: dict[str, Path], tiny_config: ExperimentConfig
) -> None:
    model = tiny_config.model.model_copy(update={"drop_path": 0.0})
    assert load_pretrained(trained["method"], model)


def test_damaged_weights(
    trained: dict[str, Path], tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    card = fp.model_card(trained["method"])
    state = safetensors.torch.load_file(trained["method"] / "model" / fp.WEIGHTS_FILE)
    export_model(tmp_path, state, {k: card[k] for k in ("kind", "model")})
    weights = tmp_path / fp.WEIGHTS_FILE
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="is damaged: its sha256"):
        load_pretrained(tmp_path, tiny_config.model)


def test_a_classifier_is_no_pretrained_model(tiny_config: ExperimentConfig, tmp_path: Path) -> None:
    export_model(tmp_path, {"a": torch.zeros(1)}, {"kind": "classifier"})
    with pytest.raises(CheckpointError, match="holds a classifier, not a pre-trained model"):
        load_pretrained(tmp_path, tiny_config.model)


def test_a_batch_larger_than_the_data(
    tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    stage = tiny_config.classify.model_copy(update={"batch_size": 4096})
    config = tiny_config.model_copy(update={"classify": stage})
    with pytest.raises(DataError, match="use a smaller batch_size"):
        do("classify", config, context(tiny, tmp_path, arm="scratch"))


def test_features_that_are_not_finite(
    trained: dict[str, Path], tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    card = fp.model_card(trained["method"])
    state = load_pretrained(trained["method"], tiny_config.model)
    for name, value in state.items():
        if "norm" in name and value.is_floating_point():
            value.fill_(float("nan"))
    export_model(tmp_path / "bad", state, {k: card[k] for k in ("kind", "model")})
    with pytest.raises(TrainingError, match="training features are not finite"):
        do("svm", tiny_config, context(tiny, tmp_path / "run", init=tmp_path / "bad"))
