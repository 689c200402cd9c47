"""Whole runs by the command line: reused, resumed, waited for, in one process and in two."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sa3d.utils.paths import work

ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def sa3d(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``sa3d`` as a process of its own, in the current folder."""
    return subprocess.run(
        [sys.executable, "-m", "sa3d", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | ONE_THREAD | environment,
    )


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sa3d", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | ONE_THREAD,
    )


def journal(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_the_whole_way(tiny: Path) -> None:
    """sa3df trains its teacher first, says so, and a second call finds everything done."""
    early = sa3d("svm", "-e", "tiny")
    assert early.returncode == 2
    printed = shlex.split(early.stderr.rpartition("--set: ")[2])
    assert printed == ["sa3d", "pretrain", "-e", "tiny", "--variant", "sa3df", "--seed", "1"]

    first = sa3d(*printed[1:])
    assert first.returncode == 0, first.stderr
    assert "sa3df distils random-masks, which comes first" in first.stdout
    student = next(work().glob("pretrain-tiny-sa3df-s1-*"))
    teacher = next(work().glob("pretrain-tiny-random-masks-s1-*"))
    assert str(student) in first.stdout
    lines = [line for line in journal(student) if line["kind"] == "tags"]
    tags = {key: value for line in lines for key, value in line["values"].items()}
    assert tags["point_ops"] in ("cpp", "torch")
    assert tags["variant"] == "sa3df"
    assert tags["teacher"] == "pretrain-tiny-random-masks-s1"
    config = json.loads((student / "config.json").read_text())
    assert config["teacher"] == str(teacher / "model")
    assert config["spec"]["teacher"]["variant"] == "random-masks"
    before = (student / "result.json").stat().st_mtime_ns

    began = time.monotonic()
    again = sa3d("pretrain", "-e", "tiny", "--teacher", str(teacher))
    assert again.returncode == 0
    assert f"already done: {student}" in again.stdout
    assert (student / "result.json").stat().st_mtime_ns == before
    assert time.monotonic() - began < 60

    svm = sa3d("svm", "-e", "tiny", "--quiet")
    assert svm.returncode == 0, svm.stderr
    assert svm.stdout == ""
    assert "svm" not in svm.stderr, "no progress"
    result = json.loads(next(work().glob("svm-tiny-sa3df-s1-*/result.json")).read_text())
    assert result["spec"]["variant"] == "sa3df"
    named = sa3d("svm", "-e", "tiny", "--from", str(student))
    assert "already done: " in named.stdout, "the same model, named by its folder"

    dense = sa3d("svm", "-e", "tiny", "--set", "evaluate.svm.data.points=999")
    assert dense.returncode == 2
    assert "999 points asked" in dense.stderr
    assert "Traceback" not in dense.stderr

    elsewhere = sa3d("svm", "-e", "tiny", "--variant", "scratch", "--out", str(student))
    assert elsewhere.returncode == 2
    assert "other settings, data or code" in elsewhere.stderr


@pytest.mark.slow
def test_a_checkpoint_starts_a_variant_of_another_experiment(tiny: Path) -> None:
    made = sa3d("pretrain", "-e", "tiny", "--variant", "random-masks", "--quiet")
    assert made.returncode == 0, made.stderr
    (folder,) = work().glob("pretrain-*")
    there = ["--set", f"variants.there={{checkpoint: {folder}}}", "--variant", "there"]
    done = sa3d("svm", "-e", "tiny", *there, "--quiet")
    assert done.returncode == 0, done.stderr
    (result,) = work().glob("svm-tiny-there-s1-*/config.json")
    assert json.loads(result.read_text())["start"] == str(folder / "model")
    student = "variants.student={method: sa3df, mask: gc, gc_depth: 1, teacher: there}"
    distilled = sa3d(
        "pretrain", "-e", "tiny", *there[:2], "--set", student, "--variant", "student", "--quiet"
    )
    assert distilled.returncode == 0, distilled.stderr
    assert len(list(work().glob("pretrain-*"))) == 2, "the teacher was not trained again"


@pytest.mark.slow
def test_two_processes_train_the_teacher_first_and_then_the_student(tiny: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "sa3d", "pretrain", "-e", "tiny", "--device", "cpu"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=400, env=os.environ | ONE_THREAD
    )
    assert done.returncode == 0, done.stderr
    (student,) = work().glob("pretrain-tiny-sa3df-*/result.json")
    (teacher,) = work().glob("pretrain-tiny-random-masks-*/result.json")
    result = json.loads(student.read_text())
    assert result["protocol"]["batch"] == 64  # 32 in each process
    config = json.loads(student.with_name("config.json").read_text())
    assert config["teacher"] == str(teacher.parent / "model")
    assert done.stdout.count("distils random-masks, which comes first") == 1


def test_a_task_for_one_process_refuses_several(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sa3d.config.loading import load_experiment
    from sa3d.errors import UserError
    from sa3d.runs.config import choose
    from sa3d.runs.launch import Options, launch, locate_from

    monkeypatch.setenv("WORLD_SIZE", "2")
    config = load_experiment("tiny")
    located = locate_from(config, choose(config, "svm", variant="scratch"))
    with pytest.raises(UserError, match="sa3d svm runs in one process; start it without torchrun"):
        launch(located, Options())
    assert not located.folder.exists()


@pytest.mark.slow
def test_sigterm_saves_and_the_same_command_goes_on(tiny: Path) -> None:
    command = ["pretrain", "-e", "tiny", "--variant", "random-masks"]
    process = start(*command, "--set", "pretrain.epochs=2000")
    end = time.monotonic() + 120
    while not list(work().glob("*/last.pt")):
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "stopped by SIGTERM; the same command goes on from here" in out
    folder = next(work().glob("pretrain-tiny-random-masks-*"))
    assert not (folder / "result.json").exists()
    lines = journal(folder)
    assert lines[-1] == lines[-1] | {"kind": "close", "status": "KILLED"}


@pytest.mark.slow
def test_two_commands_that_want_the_same_run_make_it_once(tiny: Path) -> None:
    from sa3d.runs.lock import locked

    folder = work() / "mine"
    with locked(folder):  # both find it taken, so that they are sure to meet
        command = ("svm", "-e", "tiny", "--variant", "scratch", "--out", str(folder))
        both = [start(*command) for _ in range(2)]
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
    kinds = [line["kind"] for line in journal(folder)]
    assert kinds.count("close") == 1, "trained once"


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    from filelock import FileLock

    code = (
        "import sys, time; from pathlib import Path; from sa3d.runs.lock import locked\n"
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
