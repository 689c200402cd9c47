"""What the report shows of few-shot runs, from literal accuracies."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from invented import config
from page import Page

from sa3d.metrics import names as keys
from sa3d.report import write_report
from sa3d.report.fewshot import folds_chart, of_folds
from sa3d.report.results import read_experiment
from sa3d.report.sections import Section, sections_of
from sa3d.runs.config import runs_of
from sa3d.viz import style

SETTINGS = {"way": 5, "shot": 10, "epochs": 150, "batch_size": 32, "lr": 5e-4}
# by variant and fold, of seed 0
ACCURACY = {
    "sa3df": [0.95, 0.90, 0.97],
    "random-masks": [0.90, 0.90, 0.98],
    "scratch": [0.80, 0.70, 0.60],
}


def results(folder: Path, *, seeds: tuple[int, ...] = (0,), without: str = "", **more: Any) -> Path:
    """``results.json`` of three folds, of which a run may have failed; later seeds add 0.01."""
    evaluation = {
        "task": "fewshot",
        "label": "5w10s",
        "seeds": list(seeds),
        "settings": SETTINGS | {"folds": 3} | more,
    }
    settings = config(evaluations=[evaluation])
    nodes = {}
    for run in runs_of(settings):
        spec = run.spec
        if spec.task == "pretrain":
            continue
        accuracy = ACCURACY[spec.variant][spec.fold or 0] + 0.01 * spec.seed
        nodes[spec.name] = {
            "kind": "evaluate",
            "spec": spec.as_json(),
            "status": "failed" if spec.name == without else "finished",
            "metrics": {keys.TEST_ACC: accuracy},
        }
    path = folder / "results.json"
    tree = {"format": 2, "experiment": settings.model_dump(mode="json"), "nodes": nodes}
    path.write_text(json.dumps(tree))
    return path


def section(path: Path) -> Section:
    (found,) = sections_of(read_experiment(path))
    return found


def caption(path: Path) -> str:
    with style.context():
        (chart,) = folds_chart(section(path))
    assert chart.phone
    return chart.caption


def test_values_by_fold_and_both_deviations(tmp_path: Path) -> None:
    path = results(tmp_path)
    first = section(path).variants[0]
    assert of_folds(first, section(path).metric) == {0: 0.95, 1: 0.90, 2: 0.97}
    said = caption(path)
    population = [100 * np.std(values) for values in ACCURACY.values()]
    assert [f"{value:.1f}" for value in population] == ["2.9", "3.8", "8.2"]
    assert (
        "as published tables probably do, it is SA3DF 2.9, MAE (random-masks) 3.8 and scratch"
        in said
    )
    sample = np.std(ACCURACY["sa3df"], ddof=1)
    assert first.estimate is not None
    assert first.estimate.sd == pytest.approx(sample)
    assert first.estimate.interval is None, "folds share clouds"


def test_variants_are_compared_episode_by_episode(tmp_path: Path) -> None:
    said = caption(results(tmp_path))
    assert "SA3DF is ahead of MAE (random-masks) in 1 of 3 episodes (level in 1), by +1.3" in said
    assert "of scratch (random weights) in 3 of 3 episodes, by +24.0 points on average." in said


def test_a_run_that_failed_is_left_out_of_its_pair_alone(tmp_path: Path) -> None:
    said = caption(results(tmp_path, without="fewshot-5w10s-shapes-scratch-s0-f0"))
    assert "of scratch (random weights) in 2 of 2 episodes, by +28.5 points on average." in said
    assert "in 1 of 3 episodes (level in 1)" in said


def test_seeds_of_one_fold_are_averaged(tmp_path: Path) -> None:
    path = results(tmp_path, seeds=(0, 2))
    found = of_folds(section(path).variants[0], section(path).metric)
    assert found == {0: pytest.approx(0.96), 1: pytest.approx(0.91), 2: pytest.approx(0.98)}
    assert "each dot is the mean over seeds" in caption(path)


def test_one_fold_needs_no_chart(tmp_path: Path) -> None:
    with style.context():
        assert folds_chart(section(results(tmp_path, folds=1))) == []


def test_the_page_shows_mean_and_deviation_and_every_number(tmp_path: Path) -> None:
    out = tmp_path / "out"
    page = Page(write_report(results(tmp_path), out))
    assert "94.0 ± 3.6 %" in page.words
    assert "chance is 1 of 5" in page.words
    assert "Accuracy of each episode" in page.words
    for value in itertools.chain(*ACCURACY.values()):
        assert f"{value * 100:.1f}" in page.words
    assert (out / "figures" / "fewshot-5w10s-shapes-folds.png").is_file()
    assert "94.0 ± 3.6 %" in (out / "report.md").read_text()
