"""What people give by mistake or in bad faith: one clear line, exit 2, nothing executed, nothing
written; for every command that takes clouds or a model."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import trimesh
from exported import export_classifier, export_encoder, export_segmenter
from typer.testing import CliRunner

from sa3d.cli.main import app
from sa3d.inference.locating import BOXED

Call = Callable[..., tuple[int, str, str]]

PLY = "ply\nformat {} 1.0\nelement vertex {}\n" + "".join(f"property float {a}\n" for a in "xyz")
ROWS = np.random.default_rng(0).normal(size=(500, 3)).astype("<f4")
# those that are finite in the wrong byte order too: what is not is told for that
FINITE = ROWS[np.isfinite(ROWS.byteswap()).all(axis=1)]


class Runs:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch EXECUTED",)


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """``sa3d …`` in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, words)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    return run


@cache
def packed_npz(name: str) -> bytes:
    with (
        zipfile.ZipFile("made.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(name, "w") as file,
    ):
        for _ in range(300):
            file.write(bytes(1 << 20))
    data = Path("made.zip").read_bytes()
    Path("made.zip").unlink()
    return data


def saved(array: np.ndarray) -> bytes:
    np.save("made.npy", array, allow_pickle=True)
    data = Path("made.npy").read_bytes()
    Path("made.npy").unlink()
    return data


def ply(form: str, rows: bytes, count: int = len(ROWS)) -> bytes:
    return (PLY.format(form, count) + "end_header\n").encode() + rows


def box(kind: str) -> bytes:
    data = trimesh.creation.box().export(file_type=kind)
    return data if isinstance(data, bytes) else data.encode()


CLOUDS: dict[str, tuple[Callable[[], bytes], str]] = {
    "letter.docx": (lambda: b"PK", ".docx is not a format that can be read"),
    "letter.ply": (lambda: b"Dear Sir or Madam", "its header does not end"),
    "zero.ply": (lambda: b"", "the file is empty"),
    "empty.npy": (lambda: saved(np.zeros((0, 3))), "array has shape (0, 3), expected (n, 3)"),
    "one.npy": (lambda: saved(np.ones((1, 3))), "degenerate: its 1 points"),
    "equal.npy": (lambda: saved(np.ones((80, 3))), "all equal"),
    "nan.npy": (lambda: saved(np.array([[0, 0, 0], [np.nan, 1, 0]])), "point 1 is not finite"),
    "image.npy": (lambda: saved(np.zeros((64, 64, 3))), "(64, 64, 3)"),
    "pickle.npy": (
        lambda: saved(np.array([Runs()], dtype=object)),
        "Object arrays cannot be loaded",
    ),
    "order.npy": (
        lambda: saved(FINITE.byteswap()),
        "is the file written in another byte order than it says?",
    ),
    "order.ply": (
        lambda: ply("binary_big_endian", FINITE.tobytes(), len(FINITE)),
        "another byte order",
    ),
    "order.stl": (
        lambda: box("stl")[:80] + (12).to_bytes(4, "big") + box("stl")[84:],
        "it announces 201326592 triangles",
    ),
    "cut.stl": (lambda: box("stl")[:-10], "it announces 12 triangles"),
    "cut.ply": (lambda: ply("binary_little_endian", ROWS.tobytes()[:-7]), "not a whole .ply file"),
    "text.ply": (lambda: ply("ascii", b"0 0 0\n1 0 0\n"), "announces 500 rows but has 2"),
    "binary.xyz": (lambda: ROWS.tobytes(), "not a whole .xyz file"),
    "nofaces.off": (lambda: b"OFF\n3 0 0\n0 0 0\n1 0 0\n0 1 0\n", "without a single face"),
    "huge.ply": (lambda: ply("binary_little_endian", b"", 4_000_000_000), "not a whole .ply file"),
    "huge.npy": (
        lambda: saved(ROWS).replace(b"(500, 3), }" + b" " * 7, b"(4000000000, 3), }"),
        "it announces an array (4000000000, 3)",
    ),
    "huge.off": (lambda: b"OFF\n4000000000 1 0\n0 0 0\n", "it announces 4000000000 vertices"),
    "bomb.npz": (lambda: packed_npz("points.npy"), "that claim to be 314572800"),
    "bomb.ply": (
        lambda: gzip.compress(bytes(1 << 20), 1) * 300,
        "bytes that hold more than",
    ),
    "outside.npz": (lambda: packed_npz("../../outside.npy"), "that claim to be"),
}


@pytest.mark.parametrize("command", ["embed", "predict", "parts", "teach"])
@pytest.mark.parametrize("name", CLOUDS)
def test_what_is_no_cloud(
    call: Call, command: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, said = CLOUDS[name]
    if command in ("embed", "predict", "parts"):
        Path(name).write_bytes(make())
    else:
        for folder in ("good", "bad"):
            Path("shapes", folder).mkdir(parents=True)
        for at in range(2):
            Path("shapes/good", f"{at}.stl").write_bytes(box("stl"))
            Path("shapes/bad", f"{at}{name}").write_bytes(make())
    model = Path("model-of-this-test")
    {"predict": export_classifier, "parts": export_segmenter}.get(command, lambda at: at)(model)
    before = set(Path().rglob("*"))
    words = {
        "embed": ("embed", name),
        "predict": ("predict", str(model), name, "--out", "a.csv"),
        "parts": ("predict", str(model), name, "--category", "lamp", "--out", "parts"),
        "teach": ("teach", "shapes", "--out", "mine"),
    }[command]
    if command == "teach" and name == "letter.docx":  # folders are looked through for formats
        said = "the class folder 'bad' holds no file of a known format"
    code, out, told = call(*words)
    assert (code, out) == (2, "")
    lines = told.splitlines()
    assert said in told
    assert len(lines) == 1, "one line a cloud"
    assert set(Path().rglob("*")) == before, "nothing executed, nothing written"


def card_of(folder: str, payload: bytes, **changes: object) -> None:
    card = json.loads((BOXED / "model.json").read_text())
    Path(folder).mkdir()
    Path(folder, "model.json").write_text(json.dumps(card | changes))
    Path(folder, "model.safetensors").write_bytes(payload)


PAYLOAD = pickle.dumps(Runs())
MODELS: dict[str, tuple[Callable[[], object], str]] = {
    "gone": (lambda: None, "no exported model in gone"),
    "evil.pth": (lambda: Path("evil.pth").write_bytes(PAYLOAD), "is a file; give the folder of"),
    "evil": (
        lambda: card_of("evil", PAYLOAD, sha256=hashlib.sha256(PAYLOAD).hexdigest()),
        "model.safetensors is not readable",
    ),
    "changed": (lambda: card_of("changed", PAYLOAD), "is damaged: its sha256"),
    "no-card": (
        lambda: (card_of("no-card", PAYLOAD), Path("no-card/model.json").write_text("[1")),
        "cannot read no-card/model.json",
    ),
    "unfinished": (lambda: Path("unfinished").mkdir(), "no exported model in unfinished"),
    "models:/a@b@c": (lambda: None, "is no model"),
    "models:/parts@champion": (
        lambda: None,
        "MLflow at http://127.0.0.1:9 refused or did not answer",
    ),
}


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (command, name)
        for command in ("embed", "predict", "teach")
        for name in MODELS
        if (command, name) != ("embed", "gone")  # which is a cloud that is not there
    ],
)
def test_what_is_no_model(
    call: Call, command: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    make, said = MODELS[name]
    make()
    for folder in ("a", "b"):
        Path("shapes", folder).mkdir(parents=True)
        for at in range(2):
            Path("shapes", folder, f"{at}.stl").write_bytes(box("stl"))
    before = set(Path().rglob("*"))
    if (command, name) == ("embed", "unfinished"):
        Path("unfinished/journal.jsonl").touch()  # that it is taken for a run
        before = set(Path().rglob("*"))
    words = {
        "embed": ("embed", name, "shapes"),
        "predict": ("predict", name, "shapes"),
        "teach": ("teach", "shapes", "--out", "mine", "--encoder", name),
    }[command]
    code, out, told = call(*words)
    assert (code, out) == (2, "")
    assert told.count("\n") == 1
    assert said in told
    assert set(Path().rglob("*")) == before, "nothing executed, nothing written"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("embed", "classifier", "a.npy"), "holds a classifier, not a pre-trained model"),
        (("embed", "segmenter", "a.npy"), "holds a segmenter, not a pre-trained model"),
        (("predict", "encoder", "a.npy"), "holds an encoder, which knows no classes"),
        (("teach", "s", "--out", "o", "--encoder", "segmenter"), "holds a segmenter, not a pre"),
    ],
)
def test_a_model_of_another_task(call: Call, words: tuple[str, ...], said: str) -> None:
    export_encoder(Path("encoder"))
    export_classifier(Path("classifier"))
    export_segmenter(Path("segmenter"))
    np.save("a.npy", ROWS)
    before = set(Path().rglob("*"))
    code, out, told = call(*words)
    assert (code, out) == (2, "")
    assert told.count("\n") == 1
    assert said in told
    assert set(Path().rglob("*")) == before


def test_text_and_binary_are_the_same_cloud(call: Call) -> None:
    Path("a.ply").write_bytes(ply("binary_little_endian", ROWS.tobytes()))
    Path("b.ply").write_bytes(ply("binary_big_endian", ROWS.byteswap().tobytes()))
    text = "".join(f"{x!r} {y!r} {z!r}\n" for x, y, z in ROWS.astype(float).tolist())
    Path("c.ply").write_bytes(ply("ascii", text.encode()))
    Path("d.xyz").write_text(text)
    assert call("embed", "a.ply", "b.ply", "c.ply", "d.xyz", "--out", "f.npy", "-q")[0] == 0
    features = np.load("f.npy")
    np.testing.assert_allclose(features, features[:1].repeat(4, axis=0), atol=1e-5)


@pytest.mark.slow
def test_ten_million_points(call: Call) -> None:
    rng = np.random.default_rng(0)
    np.save("large.npy", rng.normal(size=(10_000_000, 3)).astype(np.float32))
    export_segmenter(Path("segmenter"))
    code, out, _ = call("embed", "large.npy")
    assert (code, out) == (0, "features.npz: 1 rows of 192 features\n")
    assert call("predict", "segmenter", "large.npy", "--category", "lamp", "--out", "o")[0] == 0
    assert np.load("o/large.parts.npy").shape == (10_000_000,)
    shutil.rmtree("o")
