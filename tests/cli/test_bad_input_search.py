"""What is given by mistake or in bad faith to commands that search, draw and serve: one clear
line, exit 2, nothing written."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh
from typer.testing import CliRunner

from sa3d.cli.main import app

Call = Callable[..., tuple[int, str, str]]
HUGE = 10**12  # rows that a header announces


def saved(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def announcing(data: bytes) -> bytes:
    """An array whose header announces that it has many more rows than there are."""
    header = data[: data.index(b"\n")]
    rows = header[header.index(b"(") + 1 : header.index(b",", header.index(b"("))]
    changed = header.replace(b"(" + rows, b"(%d" % HUGE).rstrip()
    return changed.ljust(len(header)) + data[len(header) :]


BAD = {
    "letter.docx": (b"PK", ".docx is not a format that can be read"),
    "zero.ply": (b"", "the file is empty"),
    "nan.npy": (saved(np.array([[0, 0, 0], [np.nan, 1, 0]])), "point 1 is not finite"),
    "huge.npy": (announcing(saved(np.ones((500, 3)))), f"it announces an array ({HUGE}, 3)"),
    "pickle.npy": (saved(np.array([{}], dtype=object)), "Object arrays cannot be loaded"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An index of two boxes."""
    folder = tmp_path_factory.mktemp("made")
    for name in ("a.stl", "b.stl"):
        trimesh.creation.box().export(folder / name)
    assert CliRunner().invoke(app, ["index", str(folder), "-q"]).exit_code == 0
    return (folder / ".sa3d-index.npz").read_bytes()


@pytest.fixture
def call(made: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """``sa3d …`` beside an index: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    Path("all.npz").write_bytes(made)

    def run(*words: str) -> tuple[int, str, str]:
        before = sorted(Path().rglob("*"))
        done = CliRunner().invoke(app, words)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert sorted(Path().rglob("*")) == before, "nothing was written"
        return done.exit_code, done.stdout, done.stderr

    return run


@pytest.mark.parametrize("words", [
    ("index", "{}", "--out", "new.npz"),
    ("search", "all.npz", "{}"),
    ("show", "cloud", "{}", "--out", "a.png"),
], ids=["index", "search", "show"])  # fmt: skip
@pytest.mark.parametrize("name", BAD)
def test_what_is_no_cloud(call: Call, words: tuple[str, ...], name: str) -> None:
    data, said = BAD[name]
    Path(name).write_bytes(data)
    code, out, told = call(*(word.format(name) for word in words))
    assert (code, out) == (2, "")
    assert said in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("words", [
    ("search", "bad.npz", "a.stl"),
    ("index", "a.stl", "--out", "bad.npz"),
    ("serve", "--index", "bad.npz", "--port", "0"),
], ids=["search", "index", "serve"])  # fmt: skip
def test_an_index_that_announces_too_much(call: Call, made: bytes, words: tuple[str, ...]) -> None:
    trimesh.creation.box().export("a.stl")
    with zipfile.ZipFile(io.BytesIO(made)) as old, zipfile.ZipFile("bad.npz", "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, announcing(data) if name == "features.npy" else data)
    code, out, told = call(*words)
    assert (code, out) == (2, "")
    assert (
        told == "sa3d: bad.npz is a damaged index of shapes; delete it and run `sa3d index` again\n"
    )


@pytest.mark.parametrize("model", ["gone", "a.stl"])
def test_what_is_no_model_is_not_exported(call: Call, model: str) -> None:
    trimesh.creation.box().export("a.stl")
    code, out, told = call("export", model, "--out", "a.onnx")
    assert (code, out) == (2, "")
    assert model in told
    assert told.count("\n") == 1
