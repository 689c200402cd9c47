"""``sa3d embed``: what it takes, what it writes, what it refuses."""

from __future__ import annotations

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


@pytest.mark.parametrize("out", ["features.npz", "features.npy"])
def test_what_was_written_is_no_input_the_next_time(embed: Embed, out: str) -> None:
    Path("parts/notes.md").unlink()
    found = np.zeros((1, 3), dtype=np.float32)
    np.savez("parts/.sa3d-index.npz", sa3d_index=np.array("{}"), features=found)
    np.savez("parts/index.npz", sa3d_index=np.array("{}"), features=found)
    np.save("parts/ids-of-nothing.npy", np.eye(3))
    first = embed("parts", "--out", f"parts/{out}")
    assert first[::2] == (0, "")
    assert embed("parts", "--out", f"parts/{out}") == first


def test_words_that_name_a_model(tmp_path: Path) -> None:
    assert names_model(str(BOXED))
    assert names_model("models:/a")
    assert not names_model(str(tmp_path))
    assert not names_model("a.npz")
