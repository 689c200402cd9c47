"""The runs of an experiment: which there are, in which order, and how one is chosen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sa3d import registry
from sa3d.config.experiment import ExperimentConfig
from sa3d.config.loading import load_experiment
from sa3d.errors import ConfigError
from sa3d.runs.config import RunConfig, choose, runs_of
from sa3d.runs.spec import RunSpec
from sa3d.tasks.base import Folds, Task

REAL = Path(__file__).parents[2] / "params.yaml"


def demo(*overrides: str) -> ExperimentConfig:
    return load_experiment("demo", REAL, overrides)


def names(config: ExperimentConfig) -> list[str]:
    return [run.spec.name for run in runs_of(config)]


def by_name(config: ExperimentConfig) -> dict[str, RunConfig]:
    return {run.spec.name: run for run in runs_of(config)}


def test_the_runs_of_the_demo() -> None:
    variants = ("sa3df", "random-masks", "scratch")
    assert names(demo()) == [
        "pretrain-shapes-random-masks-s0",
        "pretrain-shapes-sa3df-s0",
        *(f"svm-shapes-{variant}-s{seed}" for seed in (0, 1) for variant in variants),
        *(f"svm-shapes-noisy-{variant}-s0" for variant in variants),
        *(f"classify-shapes-{variant}-s0" for variant in variants),
        *(
            f"fewshot-5w10s-shapes-{variant}-s0-f{fold}"
            for fold in range(3)
            for variant in variants
        ),
        *(f"segment-shapes-{variant}-s0" for variant in variants),
    ]


def test_every_run_comes_after_those_it_needs() -> None:
    config = demo(
        "seeds=[0, 1]",
        "variants.third={method: sa3df, mask: gc, teacher: sa3df}",
        "variants.there={checkpoint: work/there}",
    )
    done: set[RunSpec] = set()
    for run in runs_of(config):
        assert set(run.spec.needs) <= done, run.spec.name
        done.add(run.spec)
    assert len(done) == len(names(config))


def test_what_runs_start_from() -> None:
    found = by_name(demo("variants.there={checkpoint: work/there}"))
    plain = found["pretrain-shapes-random-masks-s0"].spec
    student = found["pretrain-shapes-sa3df-s0"].spec
    assert (plain.teacher, plain.start) == (None, None)
    assert (student.teacher, student.start) == (plain, None)
    assert found["svm-shapes-noisy-sa3df-s0"].spec.start == student
    assert found["svm-shapes-random-masks-s0"].spec.start == plain
    assert found["svm-shapes-scratch-s0"].spec.start is None
    assert found["svm-shapes-there-s0"].spec.start == "work/there"
    assert not any(name.startswith("pretrain-shapes-there") for name in found)


def test_a_checkpoint_as_teacher_is_a_path() -> None:
    found = by_name(demo("variants.t={checkpoint: work/t}", "variants.sa3df.teacher=t"))
    spec = found["pretrain-shapes-sa3df-s0"].spec
    assert (spec.teacher, spec.needs) == ("work/t", ())


def test_seeds_of_evaluations_are_paired_with_those_of_pre_training_in_turn() -> None:
    config = demo("seeds=[10, 20]", "evaluate.0.seeds=[1, 2, 3, 4, 5]", "evaluate.1.seeds=[7]")
    found = by_name(config)
    starts = {}
    for name, run in found.items():
        tested = run.spec.task in ("svm", "classify")
        if tested and isinstance(run.spec.start, RunSpec) and run.spec.variant == "sa3df":
            starts[name] = run.spec.start.seed
    assert starts == {
        "svm-shapes-sa3df-s1": 10,
        "svm-shapes-sa3df-s2": 20,
        "svm-shapes-sa3df-s3": 10,
        "svm-shapes-sa3df-s4": 20,
        "svm-shapes-sa3df-s5": 10,
        "svm-shapes-noisy-sa3df-s7": 10,
        "classify-shapes-sa3df-s10": 10,
        "classify-shapes-sa3df-s20": 20,
    }
    for seed in (10, 20):
        teacher = found[f"pretrain-shapes-sa3df-s{seed}"].spec.teacher
        assert isinstance(teacher, RunSpec)
        assert teacher.seed == seed


@pytest.fixture
def folds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SVM as a task with as many folds as its cross-validation."""
    task: Task = registry.task("svm")
    folds = Folds(lambda settings: settings.folds, independent=True)
    monkeypatch.setattr("sa3d.tasks.svm.task.TASK", replace(task, folds=folds))


@pytest.mark.usefixtures("folds")
def test_every_fold_is_a_run() -> None:
    config = demo("evaluate=[{task: svm, settings: {folds: 2}, variants: [sa3df, scratch]}]")
    assert names(config)[2:] == [
        "svm-shapes-sa3df-s0-f0",
        "svm-shapes-scratch-s0-f0",
        "svm-shapes-sa3df-s0-f1",
        "svm-shapes-scratch-s0-f1",
    ]
    assert choose(config, "svm", fold=1).spec.name == "svm-shapes-sa3df-s0-f1"
    with pytest.raises(ConfigError, match="no svm with fold 2; there is: 0, 1"):
        choose(config, "svm", fold=2)


def test_a_run_carries_complete_settings() -> None:
    config = demo("evaluate.classify.model.groups=64")
    found = by_name(config)
    run = found["classify-shapes-sa3df-s0"]
    assert run.experiment == "demo"
    assert run.model == config.evaluate[2].model
    assert run.settings == config.evaluate[2].settings
    assert run.pretraining == config.variants["sa3df"]
    assert found["classify-shapes-scratch-s0"].pretraining is None
    assert found["svm-shapes-noisy-sa3df-s0"].data.name == "shapes-noisy"
    pretraining = found["pretrain-shapes-sa3df-s0"]
    assert pretraining.method == config.variants["sa3df"]
    with pytest.raises(AssertionError, match="no method"):
        _ = run.method


def test_logged_settings_are_flat_and_say_what_the_run_starts_from() -> None:
    params = by_name(demo())["svm-shapes-sa3df-s0"].params()
    assert params["experiment"] == "demo"
    assert params["data.name"] == "shapes"
    assert params["svm.folds"] == 3
    assert params["pretrain.method"] == "sa3df"
    assert params["pretrain.ema.start"] == 0.98
    scratch = by_name(demo())["svm-shapes-scratch-s0"].params()
    assert not any(key.startswith("pretrain.") for key in scratch)


@pytest.mark.parametrize(
    ("task", "given", "name"),
    [
        ("pretrain", {}, "pretrain-shapes-sa3df-s0"),
        ("pretrain", {"variant": "random-masks"}, "pretrain-shapes-random-masks-s0"),
        ("svm", {}, "svm-shapes-sa3df-s0"),
        ("svm", {"seed": 1}, "svm-shapes-sa3df-s1"),
        ("svm", {"data": "shapes-noisy"}, "svm-shapes-noisy-sa3df-s0"),
        ("svm", {"variant": "scratch", "data": "shapes"}, "svm-shapes-scratch-s0"),
        ("svm", {"label": "few"}, "svm-few-shapes-sa3df-s5"),
        ("svm", {"label": "few", "seed": 5}, "svm-few-shapes-sa3df-s5"),
        ("svm", {"seed": 5}, "svm-few-shapes-sa3df-s5"),
    ],
)
def test_the_first_run_that_fits_is_chosen(task: str, given: dict[str, Any], name: str) -> None:
    few = "{task: svm, label: few, seeds: [5]}"
    noisy = "{task: svm, data: shapes-noisy}"
    config = demo(f"evaluate=[{{task: svm, seeds: [0, 1]}}, {noisy}, {few}]")
    assert choose(config, task, **given).spec.name == name


@pytest.mark.parametrize(
    ("task", "given", "said"),
    [
        (
            "pretrain",
            {"variant": "scratch"},
            "no pretrain with variant scratch; there is: random-masks, sa3df",
        ),
        ("svm", {"variant": "sa3d"}, "no svm with variant sa3d; there is: sa3df, random-masks, "),
        ("svm", {"data": "kicad"}, "no svm with data kicad; there is: shapes, shapes-noisy"),
        ("svm", {"seed": 9}, "no svm with seed 9; there is: 0, 1"),
        ("svm", {"data": "shapes-noisy", "seed": 1}, "no svm with seed 1; there is: 0"),
        ("svm", {"fold": 0}, "no svm with fold 0; there is: none at all"),
        ("svm", {"label": "few"}, "no svm with label few; there is: none at all"),
    ],
)
def test_a_run_that_there_is_not(task: str, given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choose(demo(), task, **given)
    assert str(caught.value).startswith(f"experiment 'demo' has {said}")


def test_a_task_that_the_experiment_does_not_evaluate() -> None:
    config = demo("evaluate=[{task: svm}]")
    with pytest.raises(ConfigError, match="no classify"):
        choose(config, "classify")
    config = demo("variants={a: {scratch: true}}", "reference=a")
    assert choose(config, "svm").spec.variant == "a"
