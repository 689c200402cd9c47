"""Fine-tuned classification: its loss, the honesty of its protocol, and resume."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from task_runs import context, do, interrupted, run_of, tiny_clouds, with_model
from torch import Tensor, nn

from sa3d.checkpoints.card import model_card, model_digest
from sa3d.checkpoints.load import load_classifier
from sa3d.config.experiment import ExperimentConfig
from sa3d.data.loader import Batch
from sa3d.data.split import train_val_test
from sa3d.engine.types import Progress
from sa3d.errors import DataError, UserError
from sa3d.metrics import names as keys
from sa3d.runs.spec import RunSpec
from sa3d.tasks import selection
from sa3d.tasks.finetuning import Classification
from sa3d.tracking.journal import read_journal

pytestmark = pytest.mark.usefixtures("one_thread")


# --- the loss ------------------------------------------------------------------------------


class Fixed(nn.Module):
    """Logits that do not depend on the clouds."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, points: Tensor) -> Tensor:
        return self.logits


PROGRESS = Progress(0, 1, 0, 1, torch.Generator())


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("classes", [2, 5, 40])
def test_smoothing_takes_its_share_from_the_true_class_and_spreads_it_over_the_others(
    smoothing: float, classes: int
) -> None:
    logits = torch.randn(6, classes, generator=torch.Generator().manual_seed(0)) * 3
    labels = torch.arange(6) % classes
    method = Classification(Fixed(logits), smoothing, classes)  # type: ignore[arg-type]
    out = method.training_step(Batch(torch.zeros(6, 4, 3), labels, None), PROGRESS)

    expected = 0.0
    for row, label in zip(logits.double().tolist(), labels.tolist(), strict=True):
        total = math.log(sum(math.exp(x) for x in row))
        for number, logit in enumerate(row):
            weight = 1 - smoothing if number == label else smoothing / (classes - 1)
            expected -= weight * (logit - total) / 6
    assert out["loss"].item() == pytest.approx(expected, rel=1e-5)
    assert out[keys.TRAIN_ACC].item() == pytest.approx(
        sum(row.argmax() == label for row, label in zip(logits, labels, strict=True)) / 6
    )


def test_smoothing_that_no_class_number_bears_is_refused_before_training(
    tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    """Of 16 classes each other one would get more than the true one from 15/16 on."""
    run = run_of(tiny_config, "classify", "scratch", label_smoothing=0.95)
    with pytest.raises(UserError, match=r"label_smoothing=0\.95 .* 16 classes") as refused:
        do(run, context(tiny, tmp_path))
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "last.pt").exists()


# --- the protocol --------------------------------------------------------------------------


class Reads:
    """Which rows of validation and test are read, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path, seed: int, share: float):
        self.splits = train_val_test(tiny_clouds(root), share, seed)
        self.seen: list[str] = []
        real = selection.fixed_batches

        def spy(clouds: Any, rows: Any, *rest: Any) -> Any:
            known = {"val": self.splits.val, "test": self.splits.test}
            self.seen += [name for name, own in known.items() if np.array_equal(own, rows)]
            return real(clouds, rows, *rest)

        monkeypatch.setattr(selection, "fixed_batches", spy)


def test_test_is_read_only_at_the_end(
    trained: dict[str, Path],
    tiny: Path,
    tiny_config: ExperimentConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = run_of(tiny_config, "classify")
    reads = Reads(monkeypatch, tiny, run.spec.seed, run.data.val_fraction)
    folder = tmp_path / "c"
    result = do(run, context(tiny, folder, start=trained["sa3df"]))
    # validation once (its clouds are kept), then test for `last` and for `val-selected`
    assert reads.seen == ["val", "test", "test"]
    assert result.metrics[keys.TEST_ACC] == result.metrics[keys.TEST_VAL_SELECTED]
    assert keys.TEST_LAST in result.metrics
    assert keys.TEST_BEST not in result.metrics
    assert result.protocol["test_reads"] == 1
    assert result.protocol["encoder"].startswith("pre-trained: ")
    history = read_journal(folder)
    assert len(history[keys.VAL_ACC]) == run.settings.model_dump()["epochs"] == 2
    assert len(history[keys.TEST_ACC]) == 1
    assert keys.TEST_EPOCH not in history
    best = max(value for _, value in history[keys.VAL_ACC])
    assert result.metrics[keys.VAL_ACC] == best
    assert not set(reads.splits.val) & set(reads.splits.test)
    assert not set(reads.splits.val) & set(reads.splits.train)

    # 0.2 was asked for; of six clouds a class, each its own family, one goes to validation
    counts = result.data
    assert counts["train"] + counts["val"] == 96
    assert result.protocol["val_share"] == counts["val"] / 96 == 1 / 6
    assert result.protocol["validation"] == "16.7 % of the training split"

    card = model_card(folder)
    assert RunSpec.from_json(card["spec"]) == run.spec
    classifier, _ = load_classifier(folder)
    outcomes = np.load(folder / "outcomes.npz")
    assert outcomes["index"].tolist() == reads.splits.test.tolist()
    assert outcomes["score"].mean() == result.metrics[keys.TEST_ACC]
    reader = selection.Reader(tiny_clouds(tiny), run, 16, torch.device("cpu"))
    logits, _ = reader.logits(classifier, reads.splits.test)
    assert logits.argmax(1).tolist() == outcomes["predicted"].tolist(), "the selected weights"


def test_validation_counts_a_family_once(tiny: Path, tiny_config: ExperimentConfig) -> None:
    run = run_of(tiny_config, "classify", "scratch")
    rows = np.arange(6)
    family = tiny_clouds(tiny).family.copy()
    family[rows] = [0, 0, 0, 0, 1, 2]
    reader = selection.Reader(
        replace(tiny_clouds(tiny), family=family), run, 6, torch.device("cpu")
    )
    right = torch.zeros(6, 16)
    right[range(6), torch.from_numpy(tiny_clouds(tiny).labels[rows])] = 1.0
    right[[0, 4]] *= -1.0  # one of the four, and all of a family of one
    model: Any = Fixed(right)
    assert reader.measure(model, rows).score == pytest.approx(4 / 6)
    assert reader.validate(model, rows).score == pytest.approx((3 / 4 + 0 + 1) / 3)
    assert reader.validate(model, rows).loss == reader.measure(model, rows).loss


def test_best_on_test_only_where_asked_for(
    tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    run = run_of(tiny_config, "classify", "scratch", test_every_epoch=True)
    result = do(run, context(tiny, tmp_path))
    curve = [value for _, value in read_journal(tmp_path)[keys.TEST_EPOCH]]
    assert len(curve) == 2
    assert result.metrics[keys.TEST_BEST] == max(curve)
    assert result.protocol["test_reads"] == 1 + 2
    assert result.protocol["encoder"] == "random weights, seed 1"


def test_layer_decay_spares_a_pretrained_encoder_alone(
    trained: dict[str, Path], tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    found = {}
    for name in ("random-masks", "scratch"):
        run = run_of(tiny_config, "classify", name, epochs=1, layer_decay=0.75)
        result = do(run, context(tiny, tmp_path / name, start=trained.get(name)))
        found[name] = result.protocol["layer_decay"]
    assert found == {"random-masks": 0.75, "scratch": 1.0}


def test_it_resumes_to_the_same_result(
    tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tiny_config, "classify", "scratch")
    whole = do(run, context(tiny, tmp_path / "whole"))
    cut = tmp_path / "cut"
    where = context(tiny, cut)
    interrupted(monkeypatch, whole.protocol["steps"] - 1, lambda: do(run, where))
    again = do(run, context(tiny, cut))
    assert model_digest(cut) == model_digest(tmp_path / "whole")
    for name in (keys.TEST_ACC, keys.TEST_LAST, keys.VAL_ACC, keys.LOSS):
        assert again.metrics[name] == whole.metrics[name]


def test_it_learns(tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path) -> None:
    easy = {"epochs": 25, "layer_decay": 1.0, "lr": 5e-3, "dropout": 0.0, "augment": "none"}
    result = do(run_of(tiny_config, "classify", "scratch", **easy), context(tiny, tmp_path))
    accuracy = [value for _, value in read_journal(tmp_path)[keys.TRAIN_ACC]]
    assert accuracy[-1] > 0.5, "chance is 1 of 16"
    assert result.metrics[keys.TEST_ACC] > 4 / 16
    assert result.protocol["selected_epoch"] <= 25


def test_it_may_cut_clouds_into_other_patches_than_pre_training(
    trained: dict[str, Path], tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    run = with_model(run_of(tiny_config, "classify", epochs=1), groups=16, group_size=12)
    result = do(run, context(tiny, tmp_path, start=trained["sa3df"]))
    assert result.protocol["encoder"].startswith("pre-trained: ")
    assert model_card(tmp_path)["model"]["groups"] == 16


def test_a_batch_larger_than_the_data(
    tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    run = run_of(tiny_config, "classify", "scratch", batch_size=4096)
    with pytest.raises(DataError, match="use a smaller batch_size"):
        do(run, context(tiny, tmp_path))
