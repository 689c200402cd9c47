"""Archives from elsewhere: files and folders come out of them, and nothing else, and only here."""

from __future__ import annotations

import contextlib
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, NamedTuple

from sa3d.errors import DataError
from sa3d.utils.files import check_space, sync, unwritable
from sa3d.utils.progress import ProgressBar

_WORK = ".unpacking"
_OF_MACS = "__MACOSX/"  # attributes that macOS packs beside the files; no data
# what a file that is no whole archive raises
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError)


class Member(NamedTuple):
    """A regular file of an archive: where it belongs, its size, and how its content is read."""

    path: PurePosixPath
    size: int
    open: Callable[[], IO[bytes]]


class NoArchiveError(DataError):
    """A file that is no whole archive: a web page, or the first half of one."""


def unpack(archive: Path, folder: Path, *, quiet: bool = False) -> list[str]:
    """Unpack a zip or tar file into ``folder``: all of it, or nothing.

    Returns:
        Names of what is new in ``folder``, sorted.

    Raises:
        NoArchiveError: see there. DataError: a member that would leave the folder, a link, a
            device, an encrypted or a repeated member, or something that is there already.
            WriteError: a full disk, no permission.
    """
    work = folder / _WORK
    try:
        shutil.rmtree(work, ignore_errors=True)  # of a process that was killed
        with _opened(archive) as members:
            tops = sorted({member.path.parts[0] for member in members})
            for top in tops:
                if (folder / top).exists():
                    raise DataError(
                        f"{folder / top} is there already; move it away, then the same command "
                        f"unpacks {archive.name}"
                    )
            check_space(work, sum(member.size for member in members))
            with ProgressBar(
                f"unpacking {archive.name}", len(members), "files", quiet=quiet
            ) as bar:
                for member in members:
                    _write(member, work)
                    bar.update()
        for top in tops:
            (work / top).rename(folder / top)
        sync(folder)
    except _DAMAGED as error:
        raise NoArchiveError(f"{archive} is damaged ({error})") from error
    except OSError as error:
        raise unwritable(folder, error) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return tops


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[list[Member]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            yield _checked(archive, _zip_members(archive, opened))
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as opened_tar:
            yield _checked(archive, _tar_members(archive, opened_tar))
    else:
        with archive.open("rb") as file:
            begin = file.read(64)
        what = "it begins with " + repr(begin[:24]) if begin else "it is empty"
        if begin.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
            what = "it is a web page"
        elif begin.startswith(b"PK"):
            what = "its end is missing"
        raise NoArchiveError(f"{archive} is no whole archive: {what}")


def _zip_members(archive: Path, opened: zipfile.ZipFile) -> Iterator[Member]:
    for info in opened.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if info.is_dir() and kind in (0, stat.S_IFDIR):
            _inside(archive, info.filename)
            continue
        if info.filename.startswith(_OF_MACS):
            continue
        if kind not in (0, stat.S_IFREG):
            raise DataError(f"{archive}: '{info.filename}' is a link or a device; refused")
        if info.flag_bits & 1:
            raise DataError(f"{archive}: '{info.filename}' is encrypted; unpack it by hand")
        yield Member(_inside(archive, info.filename), info.file_size, partial(opened.open, info))


def _tar_members(archive: Path, opened: tarfile.TarFile) -> Iterator[Member]:
    for info in opened.getmembers():
        if info.isdir():
            _inside(archive, info.name)
            continue
        if not info.isreg():
            raise DataError(f"{archive}: '{info.name}' is a link or a device; refused")

        def content(info: tarfile.TarInfo = info) -> IO[bytes]:
            file = opened.extractfile(info)
            assert file is not None, "a regular file has a content"
            return file

        yield Member(_inside(archive, info.name), info.size, content)


def _checked(archive: Path, members: Iterator[Member]) -> list[Member]:
    found, seen = [], set()
    for member in members:
        if member.path in seen:
            raise DataError(f"{archive} holds '{member.path}' twice; refused")
        seen.add(member.path)
        found.append(member)
    if not found:
        raise DataError(f"{archive} holds no file")
    return found


def _inside(archive: Path, name: str) -> PurePosixPath:
    """A member's name as a path below the folder that it is unpacked into."""
    path = PurePosixPath(name)
    strange = "\\" in name or "\0" in name or PureWindowsPath(name).drive
    if path.is_absolute() or ".." in path.parts or strange or not (path.parts or name == "./"):
        raise DataError(f"{archive}: '{name}' would lie outside of the folder; refused")
    return path


def _write(member: Member, work: Path) -> None:
    target = work / member.path
    target.parent.mkdir(parents=True, exist_ok=True)
    with member.open() as content, target.open("xb") as file:
        shutil.copyfileobj(content, file, 1 << 20)
        written = file.tell()
    if written != member.size:
        raise EOFError(f"'{member.path}' has {written} of {member.size} bytes")
