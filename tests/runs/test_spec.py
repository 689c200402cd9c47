"""The identity of a run: its name, its tags, and its way into files and back."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from sa3d.config.loading import experiment_names, load_experiment
from sa3d.runs.config import runs_of
from sa3d.runs.spec import RunSpec

REAL = Path(__file__).parents[2] / "params.yaml"

PLAIN = RunSpec("pretrain", "random-masks", "shapes", 3)
STUDENT = RunSpec("pretrain", "sa3df", "shapes", 3, teacher=PLAIN)
SVM = RunSpec("svm", "sa3df", "noisy", 7, start=STUDENT)
FOLD = RunSpec("probe", "there", "shapes", 0, fold=2, label="few", start="work/there")
SCRATCH = RunSpec("classify", "scratch", "shapes", 0)


@pytest.mark.parametrize(
    ("spec", "evaluation", "name", "short"),
    [
        (
            STUDENT,
            "pretrain-shapes",
            "pretrain-shapes-sa3df-s3",
            "sa3df-shapes-s3",
        ),
        (SVM, "svm-noisy", "svm-noisy-sa3df-s7", "sa3df-noisy-s7"),
        (
            FOLD,
            "probe-few-shapes",
            "probe-few-shapes-there-s0-f2",
            "there-shapes-few-s0-f2",
        ),
    ],
)
def test_names(spec: RunSpec, evaluation: str, name: str, short: str) -> None:
    assert (spec.evaluation, spec.name, spec.short) == (evaluation, name, short)


def test_a_run_needs_the_runs_it_starts_from_and_no_checkpoints() -> None:
    assert STUDENT.needs == (PLAIN,)
    assert SVM.needs == (STUDENT,)
    assert FOLD.needs == SCRATCH.needs == ()


def test_tags_are_texts_and_leave_out_what_does_not_apply() -> None:
    assert SCRATCH.tags() == {
        "task": "classify",
        "variant": "scratch",
        "data": "shapes",
        "seed": "0",
    }
    assert STUDENT.tags()["teacher"] == "pretrain-shapes-random-masks-s3"
    assert FOLD.tags() == {
        "task": "probe",
        "variant": "there",
        "data": "shapes",
        "seed": "0",
        "fold": "2",
        "label": "few",
        "start": "work/there",
    }


@pytest.mark.parametrize("spec", [PLAIN, STUDENT, SVM, FOLD, SCRATCH])
def test_json_and_back(spec: RunSpec) -> None:
    again = RunSpec.from_json(json.loads(json.dumps(spec.as_json())))
    assert again == spec
    assert again.needs == spec.needs


@pytest.mark.parametrize("tree", [{"task": "svm"}, {**SVM.as_json(), "unknown": "method"}])
def test_what_is_no_run_is_refused(tree: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        RunSpec.from_json(tree)


@pytest.mark.parametrize("experiment", experiment_names(REAL))
def test_names_are_unique_in_every_experiment(experiment: str) -> None:
    specs = [run.spec for run in runs_of(load_experiment(experiment, REAL))]
    assert len(specs) >= 5
    for names in (
        Counter(spec.name for spec in specs),
        Counter((spec.task, spec.short) for spec in specs),
    ):
        assert max(names.values()) == 1, names
