"""Files are replaced whole, and a disk that refuses is one message."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sa3d.errors import WriteError
from sa3d.utils.files import replacing, write_whole

ROOM = 64


@contextmanager
def small_files() -> Iterator[None]:
    """The kernel lets no file of this process grow beyond ``ROOM`` bytes. Not a fixture, which
    would still hold when pytest writes its own report, to a file where its output goes to one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_appears_with_its_folder_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x.json"
    assert write_whole(path, b"one") == path
    write_whole(path, memoryview(b"two"))
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "x", b"old")
    refused = pytest.raises(WriteError, match=r"^cannot write .*/x: File too large; buy a disk$")
    with small_files(), refused:
        write_whole(path, bytes(ROOM + 1), "buy a disk")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("place", ["/proc/none/x", "/dev/null/x"])
def test_where_nothing_can_be_written(place: str) -> None:
    with pytest.raises(WriteError, match=f"^cannot write {place}: .*; free some") as raised:
        write_whole(Path(place), b"x")
    assert raised.value.exit_code == 2


def test_a_block_that_fails_changes_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_bytes(b"new")
            raise KeyboardInterrupt

    path = write_whole(tmp_path / "x", b"old")
    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    path = tmp_path / "x"
    code = (
        "import sys, time; from pathlib import Path; from sa3d.utils.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as t: t.write_bytes(b'half'); time.sleep(60)"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(path)])
    left = tmp_path / f".x.{writer.pid}.tmp"
    end = time.monotonic() + 30
    while not left.is_file() and time.monotonic() < end:
        time.sleep(0.02)
    write_whole(path, b"beside a living writer")
    assert left.is_file()
    writer.send_signal(signal.SIGKILL)
    writer.wait(30)
    others = [tmp_path / name for name in (f".x.y.{writer.pid}.tmp", ".x.old.tmp")]
    for other in others:
        other.touch()
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert sorted(tmp_path.iterdir()) == sorted([path, *others])


def test_what_another_users_process_is_writing_stays(tmp_path: Path) -> None:
    theirs = tmp_path / ".x.1.tmp"
    theirs.touch()
    write_whole(tmp_path / "x", b"new")  # of process 1, which nobody but root may signal
    assert theirs.is_file()


FULL_AT_THE_END = """
import resource, sys
from sa3d.cli import main as cli
from sa3d.tasks.pretrain import run as pretrain

real = pretrain.save_explanation

def on_a_full_disk(*arguments):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        real(*arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

pretrain.save_explanation = on_a_full_disk
sys.argv = ["sa3d", "pretrain", "-e", "tiny", "--variant", "random-masks", "--quiet"]
cli.main()
"""


@pytest.mark.slow
def test_a_disk_full_at_the_end_of_pretraining_is_one_message(tiny: Path) -> None:
    def pretrain(*command: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, env=environment, timeout=240
        )

    command = ("-m", "sa3d", "pretrain", "-e", "tiny", "--variant", "random-masks", "--quiet")
    done = pretrain("-c", FULL_AT_THE_END)
    assert done.returncode == 2, done.stderr
    folder = next(Path(os.environ["SA3D_WORK"]).glob("pretrain-tiny-random-masks-*"))
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"sa3d: cannot write {folder / 'explain.npz'}: File too large; free")
    assert not (folder / "result.json").exists()
    assert not list(folder.rglob("*.tmp"))

    trained = (folder / "last.pt").read_bytes()
    again = pretrain(*command)
    assert again.returncode == 0, again.stderr
    assert (folder / "explain.npz").is_file()
    assert (folder / "result.json").is_file()
    assert (folder / "last.pt").read_bytes() == trained, "nothing was trained again"
