"""``sa3d embed``: what it takes, what it writes, what it refuses."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import trimesh
from typer.testing import CliRunner

import sa3d
from sa3d.cli.main import app
from sa3d.inference.inputs import expand
from sa3d.inference.locating import BOXED, names_model

Embed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def embed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Embed:
    """``sa3d embed`` in a folder with some parts: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parts" / "sub").mkdir(parents=True)
    (tmp_path / "parts" / ".hidden.npy").write_bytes(b"no")
    (tmp_path / "parts" / "notes.md").write_text("not a cloud")
    trimesh.creation.box().export(tmp_path / "parts" / "box.stl")
    trimesh.creation.icosphere().export(tmp_path / "parts" / "sub" / "ball.ply")
    np.save(tmp_path / "cloud.npy", np.random.default_rng(0).normal(size=(1500, 3)))
    (tmp_path / "bad.ply").write_text("not a ply")

    def call(*words: str, stdin: str = "") -> tuple[int, str, str]:
        done = CliRunner().invoke(app, ["embed", *words], input=stdin)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    return call


def test_a_folder_by_the_encoder_in_the_box(embed: Embed, tmp_path: Path) -> None:
    code, said, _ = embed("parts", "cloud.npy")
    assert (code, said) == (0, "features.npz: 3 rows of 192 features\n")
    with np.load("features.npz", allow_pickle=False) as found:
        assert found["ids"].tolist() == ["parts/box.stl", "parts/sub/ball.ply", "cloud.npy"]
        wanted = sa3d.load_encoder().embed(found["ids"].tolist())
        np.testing.assert_allclose(found["features"], wanted, atol=1e-5)


def test_a_model_may_be_named_first(embed: Embed) -> None:
    assert embed("parts", "--out", "a.npz")[0] == 0
    assert embed(str(BOXED), "parts", "--out", "b.npz")[0] == 0
    with np.load("a.npz") as a, np.load("b.npz") as b:
        np.testing.assert_array_equal(a["features"], b["features"])


def test_formats_of_the_output(embed: Embed) -> None:
    for name in ("a.npz", "a.npy", "a.parquet"):
        assert embed("parts", "-q", "--out", name) == (0, "", "")
    with np.load("a.npz") as found:
        ids, features = found["ids"].tolist(), found["features"]
    np.testing.assert_array_equal(np.load("a.npy"), features)
    assert Path("a.ids.txt").read_text().splitlines() == ids
    table = pq.read_table("a.parquet")
    assert table["id"].to_pylist() == ids
    np.testing.assert_array_equal(np.array(table["features"].to_pylist(), np.float32), features)
    code, _, said = embed("parts", "--out", "a.csv")
    assert (code, said) == (2, "sa3d: --out a.csv: give a name that ends in .npz, .npy, .parquet\n")


def test_one_bad_file_does_not_end_the_rest(embed: Embed) -> None:
    code, said, told = embed("bad.ply", "parts", "gone.npy", "*.xyz", "cloud.npy")
    assert (code, said) == (1, "features.npz: 3 rows of 192 features\n")
    assert sorted(told.splitlines()) == [
        "sa3d: 3 could not be read, as told above",
        "sa3d: bad.ply: not a whole .ply file: its header does not end",
        "sa3d: gone.npy: cannot be opened (No such file or directory)",
        "sa3d: no file fits the pattern '*.xyz'",
    ]


def test_names_on_standard_input(embed: Embed) -> None:
    code, _, _ = embed("-", "--out", "a.npz", stdin="cloud.npy\r\nparts/**/*.ply\n\n")
    assert code == 0
    with np.load("a.npz") as found:
        assert found["ids"].tolist() == ["cloud.npy", "parts/sub/ball.ply"]
    code, _, told = embed("-", "--out", "b.npz", stdin="\n")
    assert code == 2
    assert told.startswith("sa3d: no cloud was given")


def test_words_mean_each_file_once(embed: Embed) -> None:
    files, failures = expand(["parts/box.stl", "parts", "parts/*", "parts/**"], [])
    assert [str(file) for file in files] == [
        *("parts/box.stl", "parts/sub/ball.ply", "parts/notes.md"),
    ]
    assert failures == []
    Path("empty").mkdir()
    assert "holds no file of a known format" in expand(["empty"], [])[1][0].reason
    Path("odd[1].npy").write_bytes(b"")
    assert expand(["odd[1].npy"], [])[0] == [Path("odd[1].npy")], "a name, not a pattern"


class Runs:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch EXECUTED",)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("empty.npy", r"array has shape (0, 3), expected (n, 3)"),
        ("one.npy", "degenerate: its 1 points"),
        ("equal.npy", "all equal"),
        ("nan.npy", "point 1 is not finite"),
        ("pickle.npy", "Object arrays cannot be loaded"),
        ("zero.ply", "the file is empty"),
        ("bad.ply", "its header does not end"),
        ("huge.ply", "not a whole .ply file"),
        ("cut.stl", "it announces 12 triangles"),
        ("nofaces.off", "without a single face"),
        ("letter.docx", ".docx is not a format that can be read"),
        ("gone.npy", "cannot be opened"),
    ],
)
def test_what_is_no_cloud(embed: Embed, name: str, said: str) -> None:
    np.save("empty.npy", np.zeros((0, 3)))
    np.save("one.npy", np.ones((1, 3)))
    np.save("equal.npy", np.ones((80, 3)))
    np.save("nan.npy", np.array([[0, 0, 0], [np.nan, 1, 0], [1, 1, 1.0]]))
    np.save("pickle.npy", np.array([Runs()], dtype=object), allow_pickle=True)
    Path("zero.ply").touch()
    Path("huge.ply").write_text(
        "ply\nformat binary_little_endian 1.0\nelement vertex 4000000000\nproperty float x\n"
        "property float y\nproperty float z\nend_header\n"
    )
    Path("cut.stl").write_bytes(Path("parts/box.stl").read_bytes()[:-10])
    Path("nofaces.off").write_text("OFF\n3 0 0\n0 0 0\n1 0 0\n0 1 0\n")
    Path("letter.docx").write_bytes(b"PK")
    before = set(Path().iterdir())
    code, out, told = embed(name)
    assert (code, out) == (2, "")
    assert told.count("\n") == 1
    assert name in told
    assert said in told
    assert set(Path().iterdir()) == before, "nothing executed, nothing written"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("evil.pth", "is a file; give the folder of an exported model"),
        ("evil", "model.safetensors is not readable"),
        ("changed", "is damaged: its sha256"),
        ("classifier", "holds a classifier, not a pre-trained model"),
        ("unfinished", "no exported model in unfinished"),
        ("models:/a@b@c", "is no model"),
    ],
)
def test_what_is_no_model(embed: Embed, model: str, said: str) -> None:
    payload = pickle.dumps(Runs())
    Path("evil.pth").write_bytes(payload)
    card = json.loads((BOXED / "model.json").read_text())
    for name, change in (
        ("evil", {"sha256": hashlib.sha256(payload).hexdigest()}),
        ("changed", {}),
        ("classifier", {"kind": "classifier"}),
    ):
        Path(name).mkdir()
        (Path(name) / "model.json").write_text(json.dumps(card | change))
        (Path(name) / "model.safetensors").write_bytes(payload)
    Path("unfinished").mkdir()
    Path("unfinished/journal.jsonl").touch()
    before = set(Path().iterdir())
    code, out, told = embed(model, "parts")
    assert (code, out) == (2, "")
    assert told.count("\n") == 1
    assert said in told
    assert set(Path().iterdir()) == before, "nothing executed, nothing written"


def test_a_server_that_is_down(embed: Embed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    code, _, told = embed("models:/parts@champion", "parts")
    assert code == 2
    assert told.startswith("sa3d: MLflow at http://127.0.0.1:9 refused or did not answer")
    assert told.count("\n") == 1


def test_words_that_name_a_model(tmp_path: Path) -> None:
    assert names_model(str(BOXED))
    assert names_model("models:/a")
    assert not names_model(str(tmp_path))
    assert not names_model("a.npz")
