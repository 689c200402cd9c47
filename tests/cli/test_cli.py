"""The command line: its surface, its speed, its messages and exit codes."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import pytest
import typer.main

from sa3d.cli.main import app
from sa3d.config.loading import load_experiment
from sa3d.runs import launch
from sa3d.runs.config import RunConfig
from sa3d.runs.fingerprint import Located
from sa3d.utils.paths import work
from tests.cli.conftest import Invoke

RUN = {
    "--offline",
    "--device",
    "--experiment",
    "-e",
    "--out",
    "--params",
    "--quiet",
    "-q",
    "--set",
    "--threads",
}
RUN |= {"--offline", "--seed", "--variant"}
TASK = RUN | {"--data", "--fold", "--from", "--label"}
SURFACE = {
    "pretrain": RUN | {"--teacher", "--workers"},
    "svm": TASK,
    "classify": TASK,
    "data prepare": {
        "NAME",
        "--allow-missing",
        "--or-absent",
        "--out",
        "--params",
        "--quiet",
        "-q",
        "--set",
    },
    "data check": {"NAME", "--json", "--params", "--set"},
    "data list": {"--json", "--params"},
    "data fetch": {"NAME", "--params", "--quiet", "-q", "--set", "--yes", "-y"},
    "data add": {"FOLDER", "--dry-run", "--like", "--name", "--quiet", "-q", "--set"},
    "fewshot": TASK,
    "convert": {
        *("CHECKPOINT", "--allow-missing", "--data", "--ema", "--layout", "--out", "--quiet", "-q"),
        *("--set", "--strict", "--to", "--trust"),
    },
    "segment": TASK,
    "report": {"RESULTS", "--out", "--quiet", "-q"},
    "doctor": {"--device", "--threads"},
    "sync": {"PLACE", "--experiment", "-e", "--quiet", "-q"},
    "embed": {"WORDS", "--out", "--quiet", "-q", "--up"},
    "predict": {"MODEL", "CLOUDS", "--category", "--out", "--quiet", "-q", "--up"},
    "teach": {"FOLDER", "--encoder", "--out", "--quiet", "-q", "--up"},
    "index": {"WORDS", "--model", "--out", "--quiet", "-q", "--up"},
    "search": {
        *("WHERE", "QUERIES", "--duplicates", "--json", "--quiet", "-q", "--sheet", "--top"),
    },
    "export": {"MODEL", "--out", "--quiet", "-q"},
    "serve": {
        *("MODEL", "--host", "--index", "--max-clouds", "--max-megabytes", "--max-points"),
        *("--max-waiting", "--port", "--quiet", "-q", "--threads"),
    },
    "show cloud": {"FILES", "--out", "--quiet", "-q", "--up"},
    "show data": {"NAME", "--clouds", "--out", "--quiet", "-q"},
    "show mask": {"RUN", "--clouds", "--epoch", "--mask", "--out", "--quiet", "-q"},
    "show complexity": {"RUN", "--clouds", "--out", "--quiet", "-q"},
    "show reconstruction": {"RUN", "--clouds", "--out", "--quiet", "-q"},
    "show parts": {"RUN", "--clouds", "--out", "--quiet", "-q"},
    "show confusion": {"RUN", "--out", "--quiet", "-q"},
    "show map": {"NAME", "--how", "--model", "--out", "--quiet", "-q", "--seed"},
    "show curriculum": {"RUN", "--clouds", "--mask", "--out", "--quiet", "-q"},
    "pack": {"RUN", "EVIDENCE", "--note", "--out", "--quiet", "-q"},
    "promote": {"MODEL", "--dry-run", "--json", "--params"},
    "rollback": {"NAME", "--json"},
    "lineage": {"WHAT", "--json"},
}


def surface(command: Any, path: str = "") -> dict[str, set[str]]:
    if hasattr(command, "commands"):
        found: dict[str, set[str]] = {}
        for name, inner in command.commands.items():
            found |= surface(inner, f"{path} {name}".strip())
        return found
    names: set[str] = set()
    for option in command.params:
        is_option = option.param_type_name == "option"
        names |= set(option.opts) if is_option else {str(option.name).upper()}
    return {path: names}


def test_the_surface_is_what_scripts_rely_on() -> None:
    found = surface(typer.main.get_command(app))
    assert {name: found[name] for name in SURFACE} == SURFACE
    assert set(found) == set(SURFACE)


def test_help_is_light() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['sa3d', '--help']\n"
        "from sa3d.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = ('torch', 'mlflow', 'prefect', 'sklearn', 'timm', 'h5py', 'numpy')\n"
        "print([m for m in heavy if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name in ("pretrain", "svm", "classify", "segment", "data", "doctor"):
        assert f"  {name} " in done.stdout
    cut = [line for line in done.stdout.splitlines()[1:] if line.endswith("...")]
    assert not cut, "the first sentence of a command fits into 80 columns"
    assert done.stderr.strip() == "[]"


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path | None, Path | None]]:
    """Instead of making a run, notes its name and the models that it starts from."""
    found: list[tuple[str, Path | None, Path | None]] = []

    def note(located: Located, options: object, folder: Path | None = None) -> Path:
        found.append((located.run.spec.name, located.start, located.teacher))
        return located.folder

    def locate(
        run: RunConfig, *, start: Path | None = None, teacher: Path | None = None
    ) -> Located:
        return Located(run, "f", work() / run.spec.name, start, teacher)

    monkeypatch.setattr(launch, "launch", note)
    monkeypatch.setattr("sa3d.cli.training.launch", note)
    monkeypatch.setattr(launch, "locate", locate)
    return found


SETS = ["--set", "seeds=[1, 2]", "--set", "evaluate.svm.label=few"]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["pretrain", "--variant", "random-masks"], "pretrain-tiny-random-masks-s1"),
        (["pretrain", "--variant", "random-masks", "--seed", "2"], "pretrain-tiny-random-masks-s2"),
        (["pretrain"], "pretrain-tiny-sa3df-s1"),
        (["svm", "--variant", "scratch"], "svm-few-tiny-scratch-s1"),
        (["svm", "--variant", "scratch", "--seed", "2"], "svm-few-tiny-scratch-s2"),
        (["svm", "--variant", "scratch", "--label", "few"], "svm-few-tiny-scratch-s1"),
        (["classify", "--variant", "scratch", "--data", "tiny"], "classify-tiny-scratch-s1"),
        (["classify", "--from", "somewhere"], "classify-tiny-sa3df-s1"),
        (
            ["classify", "--from", "somewhere", "--variant", "random-masks", "--seed", "2"],
            "classify-tiny-random-masks-s2",
        ),
    ],
)
def test_options_choose_the_run(
    invoke: Invoke, chosen: list[Any], arguments: list[str], name: str
) -> None:
    code, _, err = invoke(*arguments, "-e", "tiny", *SETS)
    assert (code, err) == (0, "")
    assert chosen[-1][0] == name
    assert chosen[-1][1] == (Path("somewhere") if "--from" in arguments else None)


def test_a_method_that_distils_makes_its_teacher_first(invoke: Invoke, chosen: list[Any]) -> None:
    third = "variants.third={method: sa3df, mask: gc, gc_depth: 1, teacher: sa3df}"
    code, out, _ = invoke("pretrain", "-e", "tiny", "--variant", "third", "--set", third)
    assert code == 0
    names = ["pretrain-tiny-random-masks-s1", "pretrain-tiny-sa3df-s1", "pretrain-tiny-third-s1"]
    assert [name for name, _, _ in chosen] == names
    assert [teacher for _, _, teacher in chosen] == [None, work() / names[0], work() / names[1]]
    assert "sa3df distils random-masks, which comes first" in out
    assert "third distils sa3df, which comes first" in out


def test_a_teacher_that_is_given_is_not_made(invoke: Invoke, chosen: list[Any]) -> None:
    assert invoke("pretrain", "-e", "tiny", "--teacher", "mine")[0] == 0
    assert chosen == [("pretrain-tiny-sa3df-s1", None, Path("mine"))]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pretrain", "-e", "tinny"], "no experiment 'tinny'"),
        (["pretrain", "-e", "tinny"], "did you mean 'tiny'?"),
        (["pretrain", "-e", "tiny", "--set", "pretrain.lrr=1"], "did you mean 'lr'?"),
        (["pretrain", "-e", "tiny", "--set", "pretrain.lr=0"], "pretrain.lr = 0: Input should be"),
        (
            ["pretrain", "-e", "tiny", "--variant", "scratch"],
            "experiment 'tiny' has no pretrain with variant scratch; there is: random-masks, sa3df",
        ),
        (
            ["pretrain", "-e", "tiny", "--variant", "random-masks", "--teacher", "x"],
            "--teacher is for a method that distils one; random-masks of 'tiny' is mae",
        ),
        (["pretrain", "-e", "tiny", "--seed", "7"], "no pretrain with seed 7; there is: 1"),
        (["pretrain", "-e", "tiny", "--teacher", "nowhere"], "no exported model in"),
        (["pretrain", "-e", "tiny", "--device", "tpu"], "--device tpu: use auto, cpu, cuda"),
        (["pretrain", "-e", "tiny", "--params", "absent.yaml"], "no absent.yaml in"),
        (
            ["pretrain", "-e", "tiny", "--set", "pretrain.data.name=other"],
            "data set other: nothing here makes it",
        ),
        (["pretrain", "-e", "tiny", "--set", "variants.sa3df.mask=gx"], "sa3df.mask.name = 'gx'"),
        (["svm", "-e", "tiny", "--from", "nowhere"], "no exported model in nowhere"),
        (["classify", "-e", "tiny", "--from", "nowhere"], "no exported model in nowhere"),
        (
            ["svm", "-e", "tiny", "--variant", "scratch", "--from", "x"],
            "--from x: variant scratch starts from random weights; give another --variant",
        ),
        (["svm", "-e", "tiny", "--data", "shapes"], "no svm with data shapes; there is: tiny"),
        (["svm", "-e", "tiny", "--fold", "0"], "no svm with fold 0; there is: none at all"),
        (["svm", "-e", "tiny", "--label", "few"], "no svm with label few; there is: none at all"),
        (["svm", "-e", "tiny", "--set", "evaluate=[]"], "'tiny' has no svm"),
        (
            [
                "svm",
                "-e",
                "tiny",
                "--set",
                "variants.there={checkpoint: gone}",
                "--variant",
                "there",
            ],
            "no exported model in gone",
        ),
        (["data", "prepare", "nothing"], "no data set 'nothing'"),
        (["report", "absent.json"], "absent.json"),
        (["sync", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_message_and_exit_2(
    invoke: Invoke, arguments: list[str], said: str
) -> None:
    code, out, err = invoke(*arguments)
    assert code == 2
    assert said in err
    assert len(err.strip().splitlines()) <= 2, err
    assert "Traceback" not in err + out
    assert not list(work().glob("*/result.json"))
    assert not list(work().glob("*/last.pt"))


def test_a_start_that_was_not_made_gives_the_command_that_makes_it(
    invoke: Invoke, chosen: list[Any]
) -> None:
    code, _, err = invoke("svm", "-e", "tiny", "--quiet")
    assert code == 2
    assert err == (
        "sa3d: pretrain-tiny-sa3df-s1 was not made yet; run first, with the same --params and "
        "--set: sa3d pretrain -e tiny --variant sa3df --seed 1\n"
    )
    name, *arguments = shlex.split(err.rpartition("--set: ")[2])
    assert name == "sa3d"
    assert invoke(*arguments)[0] == 0
    assert [name for name, _, _ in chosen][-1] == "pretrain-tiny-sa3df-s1"


def test_the_name_of_an_experiment_is_quoted_for_the_shell(
    invoke: Invoke, tiny: Path, tmp_path: Path
) -> None:
    text = (tiny / "params.yaml").read_text().replace("\n  tiny:\n", "\n  'my tiny':\n")
    (tmp_path / "other.yaml").write_text(text)
    other = ["--params", str(tmp_path / "other.yaml")]
    assert load_experiment("my tiny", tmp_path / "other.yaml").name == "my tiny"
    (tmp_path / "data").symlink_to(tiny / "data")
    code, _, err = invoke("classify", "-e", "my tiny", "--variant", "random-masks", *other)
    assert code == 2
    assert "sa3d pretrain -e 'my tiny' --variant random-masks --seed 1" in err


def test_half_downloaded_data(tiny: Path, tmp_path: Path, invoke: Invoke) -> None:
    folder = tmp_path / "project" / "data" / "processed"
    folder.mkdir(parents=True)
    shutil.copy(tiny / "params.yaml", tmp_path / "project")
    whole = (tiny / "data" / "processed" / "tiny.h5").read_bytes()
    (folder / "tiny.h5").write_bytes(whole[: len(whole) // 2])
    os.chdir(tmp_path / "project")
    code, _, err = invoke("svm", "-e", "tiny", "--variant", "scratch")
    assert code == 2
    assert "delete it and make it again" in err
    with h5py.File(folder / "tiny.h5", "w") as file:
        file["points"] = [1.0]
    assert invoke("svm", "-e", "tiny", "--variant", "scratch")[0] == 2


def test_doctor(invoke: Invoke) -> None:
    code, out, _ = invoke("doctor", "--device", "cpu")
    assert code == 0
    for name in (
        "torch",
        "device: cpu",
        "cpu tuning: ",
        "point_ops: ",
        "drop-in names: ours",
        "MLflow: ",
        "data tiny",
    ):
        assert name in out
    code, out, _ = invoke("doctor", "--device", "abacus")
    assert code == 2
    assert "PROBLEM  device" in out


def test_a_folder_that_cannot_be_made_is_one_message(invoke: Invoke) -> None:
    work().mkdir(parents=True)
    (work() / "file").write_text("")
    out = str(work() / "file" / "run")
    code, _, err = invoke("svm", "-e", "tiny", "--variant", "scratch", "--out", out)
    assert code == 2
    assert f"cannot use {out}: Not a directory; choose another --out" in err


def test_help_of_a_task_says_what_its_options_choose(invoke: Invoke) -> None:
    code, out, _ = invoke("svm", "--help")
    assert code == 0
    text = re.sub(r"\s+", " ", out)
    assert "Linear SVM on frozen features." in text
    assert "the experiment's reference" in text
