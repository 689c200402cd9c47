"""Archives unpack into their folder and nowhere else, whole or not at all."""

from __future__ import annotations

import io
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from archives import CLOUDS, zipped

from sa3d.data.unpack import NoArchiveError, unpack
from sa3d.errors import DataError, WriteError
from sa3d.utils import files


def link(name: str, target: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.create_system = 3
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, target)
        archive.writestr(f"{name}/in.txt", b"through the link")
    return buffer.getvalue()


def tarred(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_archives_unpack_to_what_is_in_them(tmp_path: Path) -> None:
    for number, content in enumerate(
        (
            CLOUDS,
            tarred((member("clouds", tarfile.DIRTYPE), b""), (member("clouds/one.txt"), b"1 2 3")),
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "a").write_bytes(content)
        assert unpack(folder / "a", folder, quiet=True) == ["clouds"]
        assert (folder / "clouds" / "one.txt").read_bytes() == b"1 2 3"
        assert sorted(each.name for each in folder.iterdir()) == ["a", "clouds"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (zipped({"ok.txt": b"", "../escaped": b"x"}), "outside of the folder"),
        (zipped({"ok.txt": b"", "/escaped": b"x"}), "outside of the folder"),
        (zipped({"a/../../escaped": b"x"}), "outside of the folder"),
        (zipped({"..\\escaped": b"x"}), "outside of the folder"),
        (zipped({"C:escaped": b"x"}), "outside of the folder"),
        (link("door", "/tmp"), "a link or a device"),
        (tarred((member("../escaped"), b"x")), "outside of the folder"),
        (tarred((member("/escaped"), b"x")), "outside of the folder"),
        (tarred((member("door", tarfile.SYMTYPE, ".."), b"")), "a link or a device"),
        (tarred((member("door", tarfile.LNKTYPE, "/etc/passwd"), b"")), "a link or a device"),
        (tarred((member("fifo", tarfile.FIFOTYPE), b"")), "a link or a device"),
        (tarred((member("a"), b"1"), (member("./a"), b"2")), "twice"),
        (zipped({}), "holds no file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "archive",
)
def test_what_would_leave_the_folder_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "archive").write_bytes(content)
    with pytest.raises(DataError, match=said):
        unpack(folder / "archive", folder, quiet=True)
    assert [each.name for each in folder.iterdir()] == ["archive"]
    assert [each.name for each in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html><html>moved</html>", "a web page"),
        (CLOUDS[:60], "its end is missing"),
        (b"", "it is empty"),
        (CLOUDS.replace(b"4 5 6", b"4 5 7"), "damaged"),
        (tarred((member("a"), bytes(range(256)) * 400))[:-200], "damaged"),
        (b"1 2 3", "it begins with"),
    ],
    ids=lambda value: value if isinstance(value, str) else "content",
)
def test_what_is_no_whole_archive_leaves_nothing(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "archive").write_bytes(content)
    with pytest.raises(NoArchiveError, match=said):
        unpack(tmp_path / "archive", tmp_path, quiet=True)
    assert [each.name for each in tmp_path.iterdir()] == ["archive"]


def test_what_is_there_already_stays(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(CLOUDS)
    (tmp_path / "clouds").mkdir()
    (tmp_path / "clouds" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="is there already"):
        unpack(tmp_path / "archive", tmp_path, quiet=True)
    assert [each.name for each in (tmp_path / "clouds").iterdir()] == ["mine.txt"]


def test_a_full_disk_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "archive").write_bytes(CLOUDS)
    usage = shutil.disk_usage(tmp_path)._replace(free=3)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(WriteError, match="free"):
        unpack(tmp_path / "archive", tmp_path, quiet=True)
    assert [each.name for each in tmp_path.iterdir()] == ["archive"]
