"""What the system does not let be read is said to be locked or forbidden, never damaged: nobody
is told to delete it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import pytest
import torch

from flows.stack import record
from sa3d.checkpoints.card import model_card
from sa3d.config.obtain import require_processed
from sa3d.data.processed_check import processed_check
from sa3d.data.store import open_clouds
from sa3d.engine.checkpoint import Checkpoint
from sa3d.errors import CheckpointError, DataError, UnreadDataError, UserError
from sa3d.report import ablation
from sa3d.runs.fingerprint import data_digest, finished
from sa3d.runs.result import read_summary
from sa3d.runs.tags import tags_of_folder
from sa3d.utils.files import unread
from tests.unprivileged import another_user

HOLDER = """
import h5py, sys
with h5py.File(sys.argv[1], "r+"):
    print("open", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def tiny_clouds(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The processed file in a project of the test's own."""
    shutil.copytree(tiny, tmp_path / "project")
    monkeypatch.setenv("SA3D_ROOT", str(tmp_path / "project"))
    return tmp_path / "project" / "data" / "processed" / "tiny.h5"


@pytest.fixture
def locked(tiny_clouds: Path) -> Iterator[Path]:
    """A processed file that another process has open for writing."""
    command = [sys.executable, "-c", HOLDER, str(tiny_clouds)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield tiny_clouds
        process.communicate()


def test_a_data_set_that_another_program_writes_is_locked(locked: Path) -> None:
    for read in (open_clouds, data_digest):
        with pytest.raises(UnreadDataError, match="is locked: another program") as told:
            read(locked)
        assert "damaged" not in str(told.value)
        assert "delete" not in str(told.value)
    found = processed_check(locked.stem, None, locked)
    assert found.state == "unreadable"
    assert not found.usable
    assert "delete" not in " ".join(found.problems)


def test_a_closed_folder_is_a_matter_of_permission(tiny_clouds: Path) -> None:
    closed = tiny_clouds.parent
    closed.chmod(0)
    try:
        with another_user():
            for read in (require_processed, open_clouds, data_digest):
                with pytest.raises(UnreadDataError, match="may not be read by this user"):
                    read(tiny_clouds)
            assert processed_check(tiny_clouds.stem, None, tiny_clouds).state == "unreadable"
    finally:
        closed.chmod(0o755)


def test_damage_is_still_called_damage(tiny_clouds: Path) -> None:
    whole = tiny_clouds.read_bytes()
    for content, said in ((whole[: len(whole) // 2], "truncated"), (b"text" * 99, "not a whole")):
        tiny_clouds.write_bytes(content)
        with pytest.raises(DataError, match=said) as told:
            open_clouds(tiny_clouds)
        assert not isinstance(told.value, UnreadDataError)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EAGAIN, errno.EIO])
def test_models_and_checkpoints_likewise(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / "model.json").write_text("{}")
    (tmp_path / "model.safetensors").touch()
    checkpoint = Checkpoint(tmp_path / "last.pt", "0" * 16)
    checkpoint.path.touch()
    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    for read in (lambda: model_card(tmp_path), lambda: checkpoint.load(torch.device("cpu"))):
        with pytest.raises(CheckpointError) as told:
            read()
        assert str(unread(OSError(number, ""))) in str(told.value)
        assert "delete" not in str(told.value)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EAGAIN, errno.EIO])
def test_what_runs_and_flows_leave_likewise(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setenv("SA3D_ROOT", str(tmp_path))
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    for path in (run / "result.json", run / "config.json", tmp_path / "shapes.json"):
        path.write_text("{}")
    monkeypatch.setattr(Path, "read_text", refuse)
    for read in (
        lambda: finished(run, "0" * 16),
        lambda: read_summary(tmp_path / "shapes.h5"),
        lambda: tags_of_folder(run),
        lambda: ablation.read(tmp_path / "ablation.json"),
        record.read,
    ):
        with pytest.raises(UserError) as told:
            read()
        assert str(unread(OSError(number, ""))) in str(told.value)
        for word in ("delete", "cut short", "again", "does not describe"):
            assert word not in str(told.value)


def test_an_error_without_the_systems_number_tells_of_the_content(tmp_path: Path) -> None:
    path = tmp_path / "foreign.h5"
    path.write_bytes(b"no HDF5 at all" * 99)
    with pytest.raises(OSError, match="signature") as raised:
        h5py.File(path, "r")
    assert unread(raised.value) is None
    assert unread(ValueError("not JSON")) is None
    # what torch gets for a file that is cut: it looks for the end of an archive before its start
    cut = tmp_path / "cut.pt"
    torch.save({"weights": torch.zeros(1000)}, cut)
    cut.write_bytes(cut.read_bytes()[:-200])
    with pytest.raises((OSError, RuntimeError)) as refused:
        torch.load(cut, weights_only=True)
    assert unread(refused.value) is None
    assert issubclass(UnreadDataError, UserError)
