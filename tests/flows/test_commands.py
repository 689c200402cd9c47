"""Forms as commands: each field an option, and a command for each form."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows import ablation, evaluate, experiment, pretrain, promote
from flows.commands import command_app, words_of
from flows.forms.ablation import AblationForm
from flows.forms.base import Form
from flows.forms.evaluate import EvaluateForm
from flows.forms.experiment import ExperimentForm
from flows.forms.pretrain import PretrainForm
from flows.forms.promote import PromoteForm
from sa3d.utils.paths import given_params

ROOT = Path(__file__).parents[2]
FULL: list[Form] = [
    ExperimentForm(
        experiment="demo",
        mask_ratio=0.7,
        epochs=3,
        lr=1e-4,
        batch_size=32,
        seeds=(0, 1),
        variants=("sa3df", "scratch"),
        settings={"pretrain.weight_decay": "0.1", "evaluate.svm.settings.folds": "5"},
        where="workers",
        queue="high",
        device="cpu",
        offline=True,
        strict=True,
        quiet=True,
        out="reports/a b",
        params=Path("own.yaml"),
    ),
    PretrainForm(experiment="demo", variant="random-masks", seeds=(7,)),
    EvaluateForm(
        model="models:/sa3d-demo-sa3df@candidate",
        experiment="kicad",
        tasks=("svm", "classify"),
        data="shapes",
        scratch=True,
    ),
    AblationForm(
        experiment="demo",
        mask_ratio=(0.5, 0.6),
        mask=("gc", "random"),
        end_ratio=(0.0, 1.0),
        grid={"model.depth": [2, 4], "pretrain.betas": [[0.9, 0.95], [0.9, 0.999]]},
    ),
    PromoteForm(model="sa3d-demo-sa3df", version=3),
]


def told(words: list[str], kind: type[Form]) -> tuple[Form | None, int, str]:
    """The form that a command line makes; its exit status and what it says."""
    made: list[Form] = []

    def act(name: str, form: Form) -> int:
        made.append(form)
        return 0

    done = CliRunner().invoke(command_app("x", kind, act), words)
    return (made[0] if made else None), done.exit_code, done.output


@pytest.mark.parametrize("form", FULL, ids=lambda form: type(form).__name__)
def test_a_form_and_its_command_line_are_the_same(form: Form) -> None:
    module, *words = words_of(form)
    assert module == f"flows.{type(form).__name__.removesuffix('Form').lower()}"
    found, status, said = told(words, type(form))
    assert status == 0, said
    assert found == form


def test_every_field_is_an_option_with_help() -> None:
    for app, form in (
        (experiment.app, ExperimentForm),
        (pretrain.app, PretrainForm),
        (evaluate.app, EvaluateForm),
        (ablation.app, AblationForm),
        (promote.app, PromoteForm),
    ):
        said = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
        for name in form.model_fields:
            option = "--set" if name == "settings" else f"--{name.replace('_', '-')}"
            assert option in said or name in ("experiment", "model")


def test_help_shows_what_is_typed_as_it_is_typed() -> None:
    said = CliRunner().invoke(evaluate.app, ["--help"], env={"COLUMNS": "200"}).output
    assert " models:/NAME@ALIAS or models:/NAME/VERSION" in said
    assert "Models:/" not in said
    assert " here: beside the flow" in said
    assert " With workers: runs of the queue high" in said
    assert "model.depth=4,8" in CliRunner().invoke(ablation.app, ["--help"]).output


def test_promote_asks_for_no_report_folder() -> None:
    said = CliRunner().invoke(promote.app, ["--help"]).output
    assert "--version" in said
    assert "--out" not in said


def test_options_of_the_experiment_command() -> None:
    words = ["demo", "--out", "there", "--params", "own.yaml", "--set", "seeds=[1]", "--set"]
    words += ["pretrain.data.name=shapes", "--device", "cuda", "-q", "--strict"]
    found, status, said = told(words, ExperimentForm)
    assert status == 0, said
    assert found == ExperimentForm(
        experiment="demo",
        out="there",
        params=Path("own.yaml"),
        settings={"seeds": "[1]", "pretrain.data.name": "shapes"},
        device="cuda",
        quiet=True,
        strict=True,
    )
    assert given_params() == Path("own.yaml")  # for messages


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--mask-ratio", "1.5"], "sa3d: --mask-ratio 1.5: Input should be less than 1"),
        (["--seeds", "0,-1"], "sa3d: --seeds -1: Input should be greater than or equal to 0"),
        (["--set", "pretrain.lr"], "sa3d: --set pretrain.lr: expected section.key=value"),
        (["--seeds", "[0"], "sa3d: --seeds [0: '[[0]' is not a value YAML can read"),
    ],
)
def test_a_wrong_value_is_refused_with_its_option(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, status, output = told(["demo", *words], ExperimentForm)
    assert (found, status) == (None, 2)
    assert said in output + capsys.readouterr().err


def command(*words: str, **env: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | env,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["flows.pretrain", "demo", "--variant", "scratch"],
            "scratch of 'demo' is not pre-trained",
        ),
        (["flows.evaluate", "no/such/folder"], "no exported model in no/such/folder"),
        (["flows.ablation", "demo", "--mask-ratio", "0.5"], "two combinations at least"),
    ],
)
def test_what_cannot_be_done_is_refused_before_a_server_is_started(
    words: list[str], said: str, tmp_path: Path
) -> None:
    # a server would have to be reached at this address
    status, output = command(*words, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert status == 2
    assert output.startswith("sa3d: ")
    assert said in output
    assert len(output.splitlines()) == 1


def test_forms_cost_neither_prefect_nor_torch() -> None:
    code = (
        "import sys; import flows.experiment, flows.evaluate, flows.ablation, flows.promote; "
        "found = {'prefect', 'torch', 'mlflow'} & set(sys.modules); print(found or 'none')"
    )
    done: Any = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "none"
