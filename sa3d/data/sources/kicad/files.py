"""Finding KiCad's models: a Debian package, read as a stream, or unpacked folders."""

from __future__ import annotations

import io
import lzma
import re
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, cast

from sa3d.errors import DataError, UnreadDataError
from sa3d.utils.files import unread
from sa3d.utils.progress import ProgressBar

FETCH = "`apt-get download kicad-packages3d`"
_SUFFIX = ".3dshapes"
_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60


class ModelFile(NamedTuple):
    """``folder`` (without ``.3dshapes``), ``stem`` (name without ``.wrl``), content.

    ``problem`` says why there is no content, if so.
    """

    folder: str
    stem: str
    text: bytes
    problem: str = ""


def locate(root: Path) -> Path:
    """The ``.deb`` file or the folder of models that ``root`` means.

    Raises:
        DataError: nothing usable there, several packages, or a package that is not whole.
    """
    if root.is_file():
        _members(root)
        return root
    wanted = (
        f"put the Debian package there ({FETCH}), or set `root` to a folder with "
        f"*{_SUFFIX} folders (KiCad installs them in /usr/share/kicad/3dmodels)"
    )
    if not root.is_dir():
        raise DataError(f"no KiCad models: {root} does not exist; make it and {wanted}")
    packages = sorted(root.glob("*.deb"))
    if len(packages) > 1:
        names = ", ".join(package.name for package in packages)
        raise DataError(f"{root} holds several packages ({names}); keep one or name it as `root`")
    if packages:
        _members(packages[0])
        return packages[0]
    if next(_wrl_paths(root), None) is None:
        raise DataError(f"no KiCad models (*{_SUFFIX}/*.wrl) below {root}; {wanted}")
    return root


def model_files(place: Path, bar: ProgressBar) -> Iterator[ModelFile]:
    """Every ``*.3dshapes/*.wrl`` of a package or folder; tells ``bar`` how many to expect."""
    if place.is_dir():
        found = sorted(_wrl_paths(place))
        bar.expect(len(found))
        for path in found:
            folder = path.parent.name.removesuffix(_SUFFIX)
            try:
                model = ModelFile(folder, path.stem, path.read_bytes())
            except OSError as error:
                model = ModelFile(folder, path.stem, b"", f"cannot be opened: {error.strerror}")
            yield model
        return
    members = _members(place)
    unpacked = _unpacked_size(place, members)
    number = 0
    try:
        with _data_tar(place, members) as stream, tarfile.open(fileobj=stream, mode="r|*") as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                if name.suffix != ".wrl" or not name.parent.name.endswith(_SUFFIX):
                    continue
                folder = name.parent.name.removesuffix(_SUFFIX)
                number += 1
                if unpacked and member.offset_data:  # an archive does not say how many it has
                    bar.expect(max(number, round(number * unpacked / member.offset_data)))
                content = tar.extractfile(member) if member.isfile() else None
                if content is None:
                    problem = "cannot be opened: no plain file in the package"
                    yield ModelFile(folder, name.stem, b"", problem)
                else:
                    yield ModelFile(folder, name.stem, content.read())
            bar.expect(number)
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        if (why := unread(error)) is not None:
            raise UnreadDataError(f"{place} {why}") from error
        raise DataError(
            f"{place} cannot be unpacked ({error}); it is damaged, fetch it again with {FETCH}"
        ) from error


def _wrl_paths(root: Path) -> Iterator[Path]:
    return (path for path in root.rglob("*.wrl") if path.parent.name.endswith(_SUFFIX))


def count_models(folder: Path) -> int:
    """Models below an unpacked folder."""
    return sum(1 for _ in _wrl_paths(folder))


class _Member(NamedTuple):
    offset: int
    size: int


def _members(package: Path) -> dict[str, _Member]:
    """Members of a Debian package (an ``ar`` archive) by name.

    Raises:
        DataError: not such a package, or shorter than its own headers say.
    """
    total = package.stat().st_size
    members: dict[str, _Member] = {}
    with package.open("rb") as file:
        if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
            raise DataError(f"{package} is not a Debian package; fetch it again with {FETCH}")
        at = len(_AR_MAGIC)
        while at < total:
            file.seek(at)
            header = file.read(_AR_HEADER)
            size = header[48:58].strip()
            if len(header) == _AR_HEADER and not size.isdigit():
                raise DataError(f"{package} is damaged; fetch it again with {FETCH}")
            end = at + _AR_HEADER + int(size or b"0")
            if len(header) < _AR_HEADER or end > total:
                raise DataError(
                    f"{package} is half-downloaded: {total} of at least {end} bytes; "
                    f"fetch it again with {FETCH}"
                )
            name = header[:16].decode("latin-1").strip().rstrip("/")
            members[name] = _Member(at + _AR_HEADER, int(size))
            at = end + end % 2  # members begin at even offsets
    if not any(name.startswith("data.tar") for name in members):
        raise DataError(
            f"{package} is half-downloaded: {total} bytes without its data part; "
            f"fetch it again with {FETCH}"
        )
    return members


@contextmanager
def _data_tar(package: Path, members: dict[str, _Member]) -> Iterator[IO[bytes]]:
    """The package's tar archive as a stream, unpacked by ``dpkg-deb`` in a process of its own
    where there is one, else what the ``ar`` member holds, which ``tarfile`` can unpack."""
    program = shutil.which("dpkg-deb")
    if program is None:
        name = next(name for name in members if name.startswith("data.tar"))
        if name.endswith(".zst"):
            raise DataError(f"{package} is packed with zstd: unpacking it needs `dpkg-deb`")
        with package.open("rb") as file:
            yield cast(IO[bytes], _Slice(file, members[name]))
        return
    command = [program, "--fsys-tarfile", str(package)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            yield process.stdout
            # tarfile stops at the end mark; a process still writing padding must not block
            while process.stdout.read(1 << 20):
                pass
            said = process.stderr.read().decode(errors="replace").strip()
            if process.wait() != 0:
                raise OSError(said.splitlines()[-1] if said else f"dpkg-deb: {process.returncode}")
        finally:
            process.kill()


def _unpacked_size(package: Path, members: dict[str, _Member]) -> int:
    """Bytes of the unpacked package, as its control file has it; 0 where that cannot be read
    (it only serves the estimate of the time left)."""
    name = next((name for name in members if name.startswith("control.tar")), None)
    if name is None or name.endswith(".zst"):
        return 0
    with (
        package.open("rb") as file,
        tarfile.open(fileobj=cast(IO[bytes], _Slice(file, members[name])), mode="r|*") as tar,
    ):
        for member in tar:
            if PurePosixPath(member.name).name == "control":
                content = tar.extractfile(member)
                text = content.read().decode(errors="replace") if content else ""
                found = re.search(r"^Installed-Size:\s*(\d+)", text, re.MULTILINE)
                return int(found.group(1)) * 1024 if found else 0
    return 0


class _Slice(io.RawIOBase):
    """Part of a file, read once from its beginning."""

    def __init__(self, file: IO[bytes], member: _Member) -> None:
        self._file, self._left = file, member.size
        file.seek(member.offset)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        data = self._file.read(wanted)
        self._left -= len(data)
        return data
