"""Part segmentation: its loss, the honesty of its protocol, resume."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from segment_cases import PLAIN, SCALES, Fixed, experiment, scratch
from task_runs import context, do, interrupted, run_of, tiny_clouds

from sa3d.checkpoints.card import model_card, model_digest
from sa3d.checkpoints.export import read_weights
from sa3d.config.experiment import ExperimentConfig
from sa3d.data.loader import Batch
from sa3d.data.split import train_val_test
from sa3d.engine.types import Progress
from sa3d.metrics import names as keys
from sa3d.models import build_segmenter
from sa3d.tasks.segment import reading
from sa3d.tasks.segment.reading import PartReader
from sa3d.tasks.segment.run import Segmentation
from sa3d.tracking.journal import read_journal
from sa3d.viz.segmented import load_segmented

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def config(tiny: Path, tmp_path: Path) -> ExperimentConfig:
    return experiment(tiny, tmp_path)


@pytest.fixture
def scales(tiny: Path, tmp_path: Path) -> ExperimentConfig:
    return experiment(tiny, tmp_path, model=SCALES)


# --- the loss ------------------------------------------------------------------------------


PROGRESS = Progress(0, 1, 0, 1, torch.Generator())


def test_the_loss_is_the_mean_over_all_points_of_all_parts() -> None:
    logits = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0)) * 3
    parts = torch.arange(10).reshape(2, 5) % 7
    batch = Batch(torch.zeros(2, 5, 3), torch.tensor([0, 1]), torch.arange(2), parts)
    out = Segmentation(Fixed(logits)).training_step(batch, PROGRESS)  # type: ignore[arg-type]
    shares = logits.double().softmax(2).numpy()
    expected = [-np.log(shares[b, n, parts[b, n]]) for b in range(2) for n in range(5)]
    assert out["loss"].item() == pytest.approx(np.mean(expected), rel=1e-5)
    right = [shares[b, n].argmax() == parts[b, n] for b in range(2) for n in range(5)]
    assert out[keys.TRAIN_ACC].item() == pytest.approx(np.mean(right))


# --- the protocol --------------------------------------------------------------------------


class Reads:
    """Which rows are read, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **known: Any) -> None:
        self.seen: list[str] = []
        real = reading.fixed_batches

        def spy(clouds: Any, rows: Any, *rest: Any, **more: Any) -> Any:
            self.seen += [name for name, own in known.items() if np.array_equal(own, rows)]
            return real(clouds, rows, *rest, **more)

        monkeypatch.setattr(reading, "fixed_batches", spy)


def test_validation_chooses_and_test_is_read_only_at_the_end(
    config: ExperimentConfig, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrained = tmp_path / "pretrained"
    do(run_of(config, "pretrain"), context(tiny, pretrained))
    run = run_of(config, "segment", epochs=3)
    clouds = tiny_clouds(tiny)
    splits = train_val_test(clouds, 0.2, run.spec.seed)
    reads = Reads(monkeypatch, val=splits.val, test=splits.test)
    folder = tmp_path / "run"
    result = do(run, context(tiny, folder, start=pretrained))
    # validation once (its clouds are kept), then test for the last and for the chosen weights
    assert reads.seen == ["val", "test", "test"]
    assert result.protocol["test_reads"] == 1
    assert result.protocol["encoder"].startswith("pre-trained: ")
    assert result.protocol["validation"] == "16.7 % of the training split"
    assert result.data["train"] + result.data["val"] == 96
    history = read_journal(folder)
    curve = [value for _, value in history[keys.VAL_MIOU]]
    assert len(curve) == 3
    assert result.metrics[keys.VAL_MIOU] == max(curve)
    assert result.protocol["selected_epoch"] == curve.index(max(curve)) + 1
    assert len(history[keys.VAL_MIOU_CATEGORY]) == 3
    assert keys.TEST_MIOU_EPOCH not in history
    assert keys.TEST_MIOU_CATEGORY_EPOCH not in history
    assert keys.TEST_MIOU_BEST not in result.metrics

    outcomes = np.load(folder / "outcomes.npz")
    assert outcomes["index"].tolist() == splits.test.tolist()
    assert outcomes["score"].mean() == result.metrics[keys.TEST_MIOU]
    # all parts of two test clouds a category weigh alike
    assert result.metrics[keys.TEST_MIOU_CATEGORY] == pytest.approx(outcomes["score"].mean())
    rows = result.details["segmentation"]["categories"]
    assert [row["name"] for row in rows] == list(clouds.class_names)
    for label, row in enumerate(rows):
        own = outcomes["score"][outcomes["labels"] == label]
        assert (row["clouds"], row["miou"]) == (len(own), pytest.approx(own.mean()))


def test_the_exported_model_is_the_chosen_one_and_says_what_its_parts_are(
    config: ExperimentConfig, tiny: Path, tmp_path: Path
) -> None:
    run, folder = scratch(config), tmp_path / "run"
    result = do(run, context(tiny, folder))
    card, clouds = model_card(folder), tiny_clouds(tiny)
    assert card["kind"] == "segmenter"
    assert tuple(card["class_names"]) == clouds.class_names
    assert tuple(card["part_names"]) == clouds.part_names
    assert tuple(map(tuple, card["class_parts"])) == clouds.class_parts
    segmenter = build_segmenter(run.model, len(card["part_names"]), len(card["class_names"]))
    segmenter.load_state_dict(read_weights(folder / "model", card))
    reader = PartReader(clouds, run, 7, torch.device("cpu"))
    found = reader.read(segmenter, np.load(folder / "outcomes.npz")["index"]).scores
    assert found.instance == pytest.approx(result.metrics[keys.TEST_MIOU], abs=1e-4)

    shown = load_segmented(folder / result.artifacts["examples"])
    assert len(shown) == 6
    outcomes = np.load(folder / "outcomes.npz")
    for cloud in range(6):  # the first test cloud of its category, and its mean IoU
        score = outcomes["score"][outcomes["labels"] == shown.labels[cloud]][0]
        ious = []
        for part in shown.parts(cloud):
            true, guess = shown.truth[cloud] == part, shown.predicted[cloud] == part
            ious.append((true & guess).sum() / (true | guess).sum() if (true | guess).any() else 1)
        assert np.mean(ious) == pytest.approx(score)


def test_best_on_test_only_where_asked_for(
    config: ExperimentConfig, tiny: Path, tmp_path: Path
) -> None:
    result = do(scratch(config, test_every_epoch=True), context(tiny, tmp_path / "run"))
    journal = read_journal(tmp_path / "run")
    curve, category = (
        [value for _, value in journal[key]]
        for key in (keys.TEST_MIOU_EPOCH, keys.TEST_MIOU_CATEGORY_EPOCH)
    )
    assert len(curve) == len(category) == 2
    assert result.metrics[keys.TEST_MIOU_BEST] == max(curve)
    assert result.metrics[keys.TEST_MIOU_LAST] == curve[-1]
    # of the same weights, not the best of its own
    assert result.metrics[keys.TEST_MIOU_CATEGORY_BEST] == category[curve.index(max(curve))]
    assert result.metrics[keys.TEST_MIOU_CATEGORY_LAST] == category[-1]
    assert result.protocol["test_reads"] == 1 + 2


def test_the_last_epoch_without_selection_trains_on_validation_clouds_too(
    config: ExperimentConfig, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clouds = tiny_clouds(tiny)
    split = clouds.split.copy()
    split[np.flatnonzero(split == 0)[::3]] = 2  # an official validation split
    own = replace(clouds, split=split)
    monkeypatch.setattr("sa3d.tasks.segment.run.open_clouds", lambda path: own)
    reads = Reads(monkeypatch, test=clouds.indices(1))
    where = context(tiny, tmp_path / "run")
    result = do(scratch(config, select="last"), where)
    assert reads.seen == ["test"]
    assert result.data["train"] == 96
    assert "val" not in result.data
    assert result.metrics[keys.TEST_MIOU] == result.metrics[keys.TEST_MIOU_LAST]
    assert keys.VAL_MIOU not in result.metrics
    assert result.protocol["selected_epoch"] == 2
    assert "validation" not in result.protocol

    chosen = do(scratch(config), context(tiny, tmp_path / "chosen"))
    assert (chosen.data["train"], chosen.data["val"]) == (64, 32)
    assert chosen.protocol["validation"] == "the data set's own validation split, 32 clouds"


def test_layer_decay_spares_a_pretrained_encoder_alone(
    config: ExperimentConfig, tiny: Path, tmp_path: Path
) -> None:
    do(run_of(config, "pretrain"), context(tiny, tmp_path / "pretrained"))
    found = {}
    for name, start in (("random-masks", tmp_path / "pretrained"), ("scratch", None)):
        run = run_of(config, "segment", name, epochs=1, layer_decay=0.75)
        result = do(run, context(tiny, tmp_path / name, start=start))
        found[name] = result.protocol["layer_decay"]
    assert found == {"random-masks": 0.75, "scratch": 1.0}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_resumes_to_the_same_result(
    config: ExperimentConfig,
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
) -> None:
    run = scratch(config, precision=precision, test_every_epoch=True)
    whole = do(run, context(tiny, tmp_path / "whole"))
    cut = tmp_path / "cut"
    interrupted(monkeypatch, whole.protocol["steps"] - 1, lambda: do(run, context(tiny, cut)))
    again = do(run, context(tiny, cut))
    assert model_digest(cut) == model_digest(tmp_path / "whole")
    timed = (keys.SAMPLES_PER_SECOND, keys.DATA_WAIT)
    same = {name: value for name, value in whole.metrics.items() if name not in timed}
    assert {name: again.metrics[name] for name in same} == same


def test_it_learns(config: ExperimentConfig, tiny: Path, tmp_path: Path) -> None:
    easy = {"epochs": 20, "lr": 1e-2, "dropout": 0.0, "augment": "none"}
    result = do(scratch(config, **easy), context(tiny, tmp_path / "run"))
    curve = [value for _, value in read_journal(tmp_path / "run")[keys.VAL_MIOU]]
    assert max(curve) > curve[0] + 0.1
    # the largest part everywhere, the best that needs no learning
    clouds = tiny_clouds(tiny)
    scores = []
    for row in clouds.indices(1):
        parts = np.bincount(clouds.parts(row), minlength=len(clouds.part_names))
        own = clouds.class_parts[clouds.labels[row]]
        absent = sum(parts[part] == 0 for part in own)
        scores.append((parts.max() / parts.sum() + absent) / len(own))
    assert result.metrics[keys.TEST_MIOU] > np.mean(scores)


def test_the_hierarchical_backbone(
    scales: ExperimentConfig, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(run_of(scales, "pretrain"), context(tiny, tmp_path / "pretrained"))
    run = run_of(scales, "segment", precision="bf16")
    start = {"start": tmp_path / "pretrained"}
    whole = do(run, context(tiny, tmp_path / "whole", **start))
    assert whole.protocol["encoder"].startswith("pre-trained: ")
    cut = context(tiny, tmp_path / "cut", **start)
    interrupted(monkeypatch, whole.protocol["steps"] - 1, lambda: do(run, cut))
    do(run, context(tiny, tmp_path / "cut", **start))
    assert model_digest(tmp_path / "cut") == model_digest(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("model", [PLAIN, SCALES], ids=["plain", "scales"])
def test_two_processes_make_one_run(tiny: Path, tmp_path: Path, model: str) -> None:
    """A parameter without a gradient would stop the second step."""
    experiment(tiny, tmp_path, model=model)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-port", "0", "--standalone", "-m", "sa3d", "segment", "-e", "parts"]
    command += ["--variant", "scratch", "--device", "cpu", "--out", str(tmp_path / "run")]
    command += ["--params", str(tmp_path / "params.yaml")]
    command += ["--set", "evaluate.segment.settings.batch_size=8"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["data"]["train"] == 80
    assert result["protocol"]["steps"] == 2 * (80 // 16)
    score = np.load(tmp_path / "run" / "outcomes.npz")["score"]
    assert score.mean() == pytest.approx(result["metrics"][keys.TEST_MIOU])
