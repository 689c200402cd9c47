"""A read-only project, no home, no room for temporary files: one line with the folder and what
moves it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import sa3d.cli.doctor
from flows import experiment
from sa3d.cli.main import app
from sa3d.errors import UserError, WriteError
from sa3d.tracking import mlflow_store
from sa3d.utils.places import check_writable, give_home, refusal
from tests.unprivileged import another_user


def caught(act: Callable[[], object]) -> OSError:
    with pytest.raises(OSError) as raised:
        act()
    return raised.value


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("SA3D_WORK", "PREFECT_HOME", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SA3D_ROOT", str(tmp_path))
    return tmp_path


def test_a_closed_folder_is_named_before_anything_is_done(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    with another_user(), pytest.raises(WriteError) as told:
        check_writable(closed / "work" / "deep", "SA3D_WORK")
    assert f"cannot write in {closed}/work/deep: no permission" in str(told.value)
    assert "SA3D_WORK" in str(told.value)
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=f"{tmp_path}/file is no folder.*with --out"):
        check_writable(tmp_path / "file" / "report", "--out")
    check_writable(tmp_path / "new" / "folder", "--out")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("inside", "setting"),
    [("work/run/log.txt", "SA3D_WORK"), (".local/prefect/server.log", "PREFECT_HOME")],
)
@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_the_setting_is_that_of_the_folder(
    project: Path, inside: str, setting: str, number: int
) -> None:
    path = project / inside
    said = refusal(OSError(number, os.strerror(number), str(path)))
    reason = os.strerror(number)
    assert said == f"cannot use {path}: {reason}; choose another folder with {setting}"


def test_temporary_files(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(project / "scratch"))
    said = refusal(OSError(errno.ENOSPC, "full", str(project / "scratch" / "part")))
    assert said is not None
    assert said.endswith("choose another folder with TMPDIR")
    # what Python raises where no folder will do
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(project / "none")])
    said = refusal(caught(tempfile.gettempdir))
    assert said == "there is no folder for temporary files; choose one with TMPDIR"


def full_disk() -> None:
    with Path("/dev/full").open("wb") as file:
        file.write(b"0")


def test_a_write_whose_place_the_system_does_not_tell_names_all_of_them(project: Path) -> None:
    said = refusal(caught(full_disk))
    assert said is not None
    assert said.startswith("cannot write: No space left on device; free some space")
    assert f"SA3D_WORK ({project / 'work'})" in said
    assert "TMPDIR (" in said


def test_other_errors_are_not_explained_away(project: Path) -> None:
    assert refusal(caught(lambda: (project / "missing").read_text())) is None
    assert refusal(ConnectionRefusedError(errno.ECONNREFUSED, "refused")) is None


def test_the_command_line_says_it_in_a_line(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def examine(*_: object) -> None:
        full_disk()

    monkeypatch.setattr(sa3d.cli.doctor, "examine", examine)
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 2
    assert done.stderr.startswith("sa3d: cannot write: No space left")
    assert done.stderr.count("\n") == 1
    monkeypatch.setattr(sa3d.cli.doctor, "examine", lambda *_: {}["bug"])
    assert isinstance(CliRunner().invoke(app, ["doctor"]).exception, KeyError)


@pytest.mark.parametrize(
    ("setting", "words"),
    [("SA3D_WORK", []), ("--out", ["--out"]), ("PREFECT_HOME", [])],
)
def test_a_flow_is_refused_before_its_server_starts(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, words: list[str]
) -> None:
    (tmp_path / "file").touch()
    nowhere = str(tmp_path / "file" / "folder")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setattr("flows.server.prefect_api", lambda _: pytest.fail("it was to refuse"))
    given = ["tiny", "--out", str(tmp_path / "report")]
    if words:
        given = ["tiny", "--out", nowhere]
    else:
        monkeypatch.setenv(setting, nowhere)
    done = CliRunner().invoke(experiment.app, given)
    assert done.exit_code == 2
    assert done.stderr == (
        f"sa3d: cannot write in {nowhere}: {tmp_path}/file is no folder; "
        f"choose another folder with {setting}\n"
    )


@pytest.mark.parametrize("words", [[], ["--offline"]])
def test_so_it_is_where_mlflow_cannot_write(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """Its store lies in the project if nothing is set, which may be read-only."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setattr(mlflow_store, "root", lambda: tmp_path / "file")
    monkeypatch.setenv("SA3D_OFFLINE", "0")  # to be as it was after the test

    def start(_: Path) -> None:
        raise UserError("the server starts")

    monkeypatch.setattr("flows.server.prefect_api", start)
    done = CliRunner().invoke(experiment.app, ["tiny", "--out", str(tmp_path / "report"), *words])
    assert done.exit_code == 2
    if words:
        assert done.stderr == "sa3d: the server starts\n"
        return
    assert done.stderr == (
        f"sa3d: cannot write in {tmp_path}/file: {tmp_path}/file is no folder; choose another "
        "folder with MLFLOW_TRACKING_URI (sqlite:////FOLDER/mlflow.db), or do without MLflow "
        "(--offline)\n"
    )


NOBODY = "import pwd\ndef unknown(number): raise KeyError(number)\npwd.getpwuid = unknown\n"
ASK = "{}\nfrom pathlib import Path\nprint(Path.home())"


@pytest.mark.parametrize(
    "first", ["import flows", "from sa3d.tracking import mlflow_store as m; m.tracking_uri()"]
)
def test_a_user_without_a_home_gets_one(project: Path, first: str) -> None:
    """As in a container that was started with a number of no user."""
    (project / "sitecustomize.py").write_text(NOBODY)
    env = {name: value for name, value in os.environ.items() if name != "HOME"}
    env["PYTHONPATH"] = f"{project}{os.pathsep}{env.get('PYTHONPATH', '')}"

    def ask(prepared: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", ASK.format(prepared)]
        return subprocess.run(
            command, env=env, cwd=Path(__file__).parents[2], capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    assert "Could not determine home directory" in ask("").stderr
    assert ask(first).stdout == f"{project / '.local'}\n"
    env["HOME"] = "/somewhere"
    assert ask(first).stdout == "/somewhere\n"


def test_a_home_that_is_there_stays(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    before = Path.home()
    give_home()
    assert "HOME" not in os.environ
    assert Path.home() == before
