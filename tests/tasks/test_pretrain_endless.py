"""Pre-training on clouds that are made meanwhile: no file, and resume to the last bit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from task_runs import context, do, interrupted, last_state, run_of

from sa3d.checkpoints.card import model_card, model_digest
from sa3d.config.data import DataConfig
from sa3d.config.endless import digest_of
from sa3d.config.experiment import ExperimentConfig
from sa3d.data.sources.procedural.settings import ProceduralSource
from sa3d.engine.checkpoint import Checkpoint
from sa3d.runs.config import RunConfig
from sa3d.runs.fingerprint import locate

pytestmark = pytest.mark.usefixtures("one_thread")
SOURCE = ProceduralSource(clouds_per_epoch=72, points=64, held_out=32)


def endless(config: ExperimentConfig, variant: str, source: ProceduralSource = SOURCE) -> RunConfig:
    """The tiny run on procedural clouds: 4 batches of 16 an epoch, 2 epochs."""
    run = run_of(config, "pretrain", variant, epochs=2, batch_size=16)
    data = DataConfig(name="procedural", points=64, endless=source)
    return replace(run, data=data, spec=replace(run.spec, data="procedural"))


@pytest.mark.parametrize("workers", [0, 1])
def test_teacher_and_student_broken_off_and_resumed(
    tiny: Path,
    tiny_config: ExperimentConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
) -> None:
    nowhere = tmp_path / "nowhere.h5"
    plain = context(tiny, tmp_path / "plain", clouds=nowhere, workers=0)
    do(endless(tiny_config, "random-masks"), plain)
    more = {"clouds": nowhere, "teacher": tmp_path / "plain", "workers": workers}
    run = endless(tiny_config, "sa3df")
    result = do(run, context(tiny, tmp_path / "whole", **more))
    assert result.data["train"] == 128
    assert (result.data["digest"], result.data["num_classes"]) == (digest_of(SOURCE), 5)
    assert result.protocol["steps"] == 8

    monkeypatch.setattr(Checkpoint, "due", lambda self: True)
    interrupted(monkeypatch, 6, lambda: do(run, context(tiny, tmp_path / "cut", **more)))
    stood = last_state(tmp_path / "cut")["position"]
    assert (stood["epoch"], stood["batch"], stood["step"]) == (1, 2, 6)
    do(run, context(tiny, tmp_path / "cut", **more))
    assert model_digest(tmp_path / "cut") == model_digest(tmp_path / "whole")
    whole, cut = last_state(tmp_path / "whole"), last_state(tmp_path / "cut")
    for name, value in whole["method"].items():
        assert torch.equal(value, cut["method"][name]), name

    card = model_card(tmp_path / "whole")
    assert card["data"]["endless"]["clouds_per_epoch"] == 72
    assert card["preprocessing"] == {
        "points": 64,
        "normalisation": "subsample",
        "stored_points": 64,
    }
    assert json.loads((tmp_path / "whole" / "config.json").read_text())["data"]["name"] == (
        "procedural"
    )


def test_the_fingerprint_is_of_settings_and_generator(
    tiny: Path, tiny_config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(source: ProceduralSource) -> str:
        return locate(endless(tiny_config, "random-masks", source)).fingerprint

    first = found(SOURCE)
    assert first == found(ProceduralSource(**SOURCE.model_dump()))
    assert first != found(SOURCE.model_copy(update={"noise_sd": 0.01}))
    monkeypatch.setattr("sa3d.data.sources.procedural.source.GENERATOR_VERSION", 999)
    assert first != found(SOURCE)
