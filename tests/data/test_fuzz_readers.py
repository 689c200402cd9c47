"""Damaged files of every format are read or refused in one line, in bounded time and memory."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fuzz_readers import Case, Reader, mutant, mutants, outcome, wholes

from sa3d import registry
from sa3d.data.readers import format_of

CORPUS = Path(__file__).with_name("corpus")
KINDS = tuple(registry.READERS)


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    """A process of limited memory; every file has limited time."""
    found = Reader()
    yield found
    found.close()


@pytest.mark.parametrize("kind", KINDS)
def test_whole_files_are_read(kind: str) -> None:
    """Otherwise everything that is made of them would be refused for another reason."""
    assert [outcome(data, kind) for data in wholes(kind)] == ["read"] * len(wholes(kind))


def test_the_same_number_is_the_same_file() -> None:
    assert [mutant("ply", at) for at in range(20)] == [mutant("ply", at) for at in range(20)]
    assert len({mutant("ply", at) for at in range(50)}) > 40


def tally(reader: Reader, count: int) -> Counter[str]:
    said = {case: reader.read(case) for case in mutants(count, KINDS)}
    failed = {case: what for case, what in said.items() if what not in ("read", "refused")}
    assert failed == {}
    return Counter(said.values())


def test_some_hundred_damaged_files(reader: Reader) -> None:
    found = tally(reader, 30 * len(KINDS))
    assert found["refused"] > found["read"] > 0


@pytest.mark.slow
def test_ten_thousand_damaged_files(reader: Reader) -> None:
    assert tally(reader, 10_000).total() == 10_000
    assert reader.peak_kib < 2 << 20


@pytest.mark.parametrize("file", sorted(CORPUS.iterdir()), ids=lambda file: file.name)
def test_files_that_once_failed(reader: Reader, file: Path) -> None:
    assert reader.read(Case(format_of(file.name), path=str(file))) == "refused"


@pytest.mark.parametrize("kind", KINDS)
def test_cut_at_any_byte(reader: Reader, kind: str, tmp_path: Path) -> None:
    """Of a binary file every beginning; of a text, which may end anywhere in its last number or
    row, none may fail otherwise than by being refused."""
    data = wholes(kind)[0]
    for end in np.linspace(0, len(data) - 1, 40).astype(int).tolist():
        (tmp_path / "cut").write_bytes(data[:end])
        said = reader.read(Case(kind, path=str(tmp_path / "cut")))
        assert said in ("read", "refused")
        if kind in ("glb", "npy", "npz", "las", "stl"):
            assert said == "refused", end


def test_an_archive_that_claims_gigabytes(reader: Reader, tmp_path: Path) -> None:
    """300 MB of zeros, packed to less than 2 MB, as an array of points and as no array."""
    for name, header in (("a.npz", True), ("b.npz", False)):
        with (
            zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
            archive.open("points.npy", "w", force_zip64=True) as file,
        ):
            if header:
                shape = {"descr": "<f8", "fortran_order": False, "shape": (12_500_000, 3)}
                np.lib.format.write_array_header_1_0(file, shape)
            for _ in range(300):
                file.write(bytes(1 << 20))
        assert (tmp_path / name).stat().st_size < 2 << 20
        before = reader.peak_kib
        assert reader.read(Case("npz", path=str(tmp_path / name))) == "refused"
        assert reader.peak_kib < before + (100 << 10)


def test_what_fails_is_noticed(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the same judgement that the damaged files get."""

    def named(error: BaseException) -> str:
        def broken(data: bytes) -> None:
            raise error

        monkeypatch.setitem(globals(), "broken", broken)
        monkeypatch.setitem(registry.READERS, "off", f"{__name__}:broken")
        return outcome(b"OFF", "off")

    assert named(ValueError("no")) == "refused"
    assert named(MemoryError()) == "wanted more memory than there is"
    assert named(KeyboardInterrupt("x")) == "KeyboardInterrupt: x"


def test_a_process_that_dies_is_noticed_and_replaced(reader: Reader) -> None:
    reader._process.kill()
    assert reader.read(Case("off", 0)).startswith("the process ended with -9")
    assert reader.read(Case("off", 0)) in ("read", "refused")
