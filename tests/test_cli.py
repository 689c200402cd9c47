"""The command line: its surface, its speed, its messages and exit codes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import pytest
import typer.main
from typer.testing import CliRunner

from sa3d.cli.main import app
from sa3d.utils.paths import processed

RUN = {"--device", "--experiment", "-e", "--out", "--params", "--quiet", "-q", "--set", "--threads"}
SURFACE = {
    "pretrain": RUN | {"--arm", "--knowledge-teacher"},
    "svm": RUN | {"--from"},
    "classify": RUN | {"--from"},
    "data prepare": {"NAME", "--out", "--params", "--quiet", "-q", "--set"},
    "data check": {"NAME", "--params", "--set"},
    "report": {"RESULTS", "--out", "--quiet", "-q"},
    "doctor": {"--device", "--threads"},
    "sync": {"RUN_DIR", "--quiet", "-q"},
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
    assert surface(typer.main.get_command(app)) == SURFACE


def test_help_is_light() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['sa3d', '--help']\n"
        "from sa3d.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = ('torch', 'mlflow', 'prefect', 'sklearn', 'timm', 'h5py', 'pydantic', 'numpy')\n"
        "print([m for m in heavy if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pretrain" in done.stdout
    assert done.stderr.strip() == "[]"


def sa3d(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``sa3d`` as a process of its own, in the current folder."""
    return subprocess.run(
        [sys.executable, "-m", "sa3d", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )


@pytest.fixture
def invoke(tiny: Path) -> Any:
    """``sa3d`` in this process, on the tiny experiment: (exit code, stdout, stderr)."""

    def call(*arguments: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, list(arguments))
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    return call


def work() -> Path:
    return Path(os.environ["SA3D_WORK"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pretrain", "-e", "tinny"], "no experiment 'tinny'"),
        (["pretrain", "-e", "tinny"], "did you mean 'tiny'?"),
        (["pretrain", "-e", "tiny", "--set", "pretrain.lrr=1"], "did you mean 'lr'?"),
        (["pretrain", "-e", "tiny", "--set", "pretrain.lr=0"], "pretrain.lr = 0: Input should be"),
        (["pretrain", "-e", "tiny", "--arm", "scratch"], "--arm scratch: use method or baseline"),
        (["pretrain", "-e", "tiny", "--arm", "baseline", "--knowledge-teacher", "x"], "for sa3df"),
        (["pretrain", "-e", "tiny", "--knowledge-teacher", "nowhere"], "no exported model in"),
        (["pretrain", "-e", "tiny", "--device", "tpu"], "--device tpu: use auto, cpu, cuda"),
        (["pretrain", "-e", "tiny", "--params", "absent.yaml"], "no absent.yaml in"),
        (
            ["pretrain", "-e", "tiny", "--set", "data.name=other"],
            "data.name=other: nothing here makes that data set",
        ),
        (["svm", "-e", "tiny", "--from", "nowhere"], "no exported model in nowhere"),
        (["classify", "-e", "tiny", "--from", "nowhere"], "no exported model in nowhere"),
        (["pretrain", "-e", "tiny", "--set", "pretrain.mask=gx"], "tiny.pretrain.mask = 'gx'"),
        (["data", "prepare", "nothing"], "no data set 'nothing'"),
        (["report", "absent.json"], "absent.json"),
        (["sync", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_message_and_exit_2(invoke: Any, arguments: list[str], said: str) -> None:
    code, out, err = invoke(*arguments)
    assert code == 2
    assert said in err
    assert len(err.strip().splitlines()) <= 2, err
    assert "Traceback" not in err + out
    assert not list(work().glob("*/result.json"))
    assert not list(work().glob("*/last.pt"))


def test_a_missing_option_names_itself(invoke: Any) -> None:
    code, _, err = invoke("svm")
    assert code == 2
    assert "--from" in err


def test_half_downloaded_data(tiny: Path, tmp_path: Path, invoke: Any) -> None:
    folder = tmp_path / "project" / "data" / "processed"
    folder.mkdir(parents=True)
    shutil.copy(tiny / "params.yaml", tmp_path / "project")
    whole = (tiny / "data" / "processed" / "tiny.h5").read_bytes()
    (folder / "tiny.h5").write_bytes(whole[: len(whole) // 2])
    os.chdir(tmp_path / "project")
    code, _, err = invoke("svm", "-e", "tiny", "--from", "scratch")
    assert code == 2
    assert "delete it and make it again" in err
    with h5py.File(folder / "tiny.h5", "w") as file:
        file["points"] = [1.0]
    assert invoke("svm", "-e", "tiny", "--from", "scratch")[0] == 2


def test_doctor(invoke: Any) -> None:
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


def test_data_check(invoke: Any, tmp_path: Path) -> None:
    code, out, _ = invoke("data", "check", "tiny")
    assert code == 0
    assert "128 points" in out
    away = processed("tiny").rename(tmp_path / "away.h5")
    try:
        assert invoke("data", "check")[0] == 0  # nobody asked for it
        code, out, _ = invoke("data", "check", "tiny")
    finally:
        away.rename(processed("tiny"))
    assert code == 2
    assert "MISSING" in out
    code, _, err = invoke("data", "check", "tiny", "--set", "pints=64")
    assert code == 2
    assert "did you mean 'points'?" in err


def test_data_prepare(invoke: Any, tmp_path: Path) -> None:
    small = ["--set", "shapes_per_class=5", "--set", "points=64"]
    code, out, _ = invoke("data", "prepare", "tiny", *small, "--out", str(tmp_path))
    assert code == 0
    assert out.strip() == str(tmp_path / "tiny.h5")
    code, out, _ = invoke("data", "prepare", "tiny", *small, "--out", str(tmp_path), "--quiet")
    assert (code, out) == (0, "")


@pytest.mark.slow
def test_the_whole_way(tiny: Path) -> None:
    """sa3df trains its baseline first, says so, and a second call finds everything done."""
    first = sa3d("pretrain", "-e", "tiny")
    assert first.returncode == 0, first.stderr
    assert "the baseline comes first" in first.stdout
    method = next(work().glob("pretrain-method-*"))
    baseline = next(work().glob("pretrain-baseline-*"))
    assert str(method) in first.stdout
    told = [json.loads(line) for line in (method / "journal.jsonl").read_text().splitlines()]
    tags = {k: v for line in told if line["kind"] == "tags" for k, v in line["values"].items()}
    assert tags["point_ops"] in ("cpp", "torch")
    config = json.loads((method / "config.json").read_text())
    assert config["knowledge_teacher"] == str(baseline / "model")
    before = (method / "result.json").stat().st_mtime_ns

    began = time.monotonic()
    again = sa3d("pretrain", "-e", "tiny", "--knowledge-teacher", str(baseline))
    assert again.returncode == 0
    assert f"already done: {method}" in again.stdout
    assert (method / "result.json").stat().st_mtime_ns == before
    assert time.monotonic() - began < 20

    svm = sa3d("svm", "-e", "tiny", "--from", str(method), "--quiet")
    assert svm.returncode == 0, svm.stderr
    assert svm.stdout == ""
    assert "svm" not in svm.stderr, "no progress"
    result = json.loads(next(work().glob("svm-method-*/result.json")).read_text())
    assert result["arm"] == "method"

    dense = sa3d("svm", "-e", "tiny", "--from", "scratch", "--set", "data.points=999")
    assert dense.returncode == 2
    assert "999 points asked" in dense.stderr
    assert "Traceback" not in dense.stderr

    elsewhere = sa3d("svm", "-e", "tiny", "--from", "scratch", "--out", str(method))
    assert elsewhere.returncode == 2
    assert "other settings, data or code" in elsewhere.stderr


@pytest.mark.slow
def test_two_processes_train_the_baseline_first_and_then_the_method(tiny: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "sa3d", "pretrain", "-e", "tiny", "--device", "cpu"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=400,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    (method,) = work().glob("pretrain-method-*/result.json")
    (baseline,) = work().glob("pretrain-baseline-*/result.json")
    result = json.loads(method.read_text())
    assert result["protocol"]["batch"] == 64  # 32 in each process
    config = json.loads(method.with_name("config.json").read_text())
    assert config["knowledge_teacher"] == str(baseline.parent / "model")
    assert done.stdout.count("the baseline comes first") == 1


@pytest.mark.slow
def test_sigterm_saves_and_the_same_command_goes_on(tiny: Path) -> None:
    command = ["pretrain", "-e", "tiny", "--arm", "baseline", "--set", "baseline.epochs=2000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sa3d", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    end = time.monotonic() + 120
    while not list(work().glob("*/last.pt")):
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "stopped by SIGTERM; the same command goes on from here" in out
    folder = next(work().glob("pretrain-baseline-*"))
    assert not (folder / "result.json").exists()
    lines = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    assert lines[-1] == lines[-1] | {"kind": "close", "status": "KILLED"}


@pytest.mark.slow
def test_two_commands_that_want_the_same_run_make_it_once(tiny: Path) -> None:
    from sa3d.runs.context import locked

    folder = work() / "mine"
    command = ["svm", "-e", "tiny", "--from", "scratch", "--out", str(folder)]
    with locked(folder):  # both find it taken, so that they are sure to meet
        both = [
            subprocess.Popen(
                [sys.executable, "-m", "sa3d", *command],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
            for _ in range(2)
        ]
        for process in both:
            assert process.stderr is not None
            said = process.stderr.readline()
            assert said.startswith(f"another process (pid {os.getpid()}, since 20")
            assert said.endswith(") is making this run; waiting for it\n")
        assert not (folder / "journal.jsonl").exists()
    ended = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    assert sum(f"already done: {folder}" in out for out, _ in ended) == 1
    assert all("test/acc" in out for out, _ in ended)
    lines = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines].count("close") == 1, "trained once"


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    from filelock import FileLock

    code = (
        "import sys, time; from pathlib import Path; from sa3d.runs.context import locked\n"
        "with locked(Path(sys.argv[1])):\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    lock = FileLock(tmp_path / ".lock")
    with pytest.raises(TimeoutError):
        lock.acquire(timeout=0)
    holder.kill()
    holder.communicate()
    with lock.acquire(timeout=5):
        pass


def test_a_folder_that_cannot_be_made_is_one_message(tiny: Path, invoke: Any) -> None:
    work().mkdir(parents=True)
    (work() / "file").write_text("")
    out = str(work() / "file" / "run")
    code, _, err = invoke("svm", "-e", "tiny", "--from", "scratch", "--out", out)
    assert code == 2
    assert f"cannot use {out}: Not a directory; choose another --out" in err
