"""``sa3d predict``: what it takes, what it writes, what it refuses."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import trimesh
from exported import NAMES, PARTS, export_classifier, export_segmenter
from typer.testing import CliRunner

import sa3d
from sa3d.cli.main import app
from sa3d.data.cloud_table import Cloud
from sa3d.data.readers import read_cloud_or_mesh
from sa3d.errors import UserError
from sa3d.inference.inputs import expand
from sa3d.inference.locating import BOXED

Predict = Callable[..., tuple[int, str, str]]


@pytest.fixture
def predict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Predict:
    """``sa3d predict`` in a folder with models and parts: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    export_classifier(Path("classify"))
    export_segmenter(Path("segment"))
    Path("parts/sub").mkdir(parents=True)
    trimesh.creation.box().export("parts/box.stl")
    trimesh.creation.icosphere().export("parts/sub/ball.ply")
    rng = np.random.default_rng(0)
    np.save("parts/sub/ball.npy", rng.normal((5_412_000.0, 120.0, 3_300_000.0), 1.0, (500, 3)))
    Path("bad.ply").write_text("not a ply")

    def call(*words: str, stdin: str = "") -> tuple[int, str, str]:
        done = CliRunner().invoke(app, ["predict", *words], input=stdin)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    return call


def test_classes_as_a_table_and_in_every_format(predict: Predict) -> None:
    ids = ["parts/box.stl", "parts/sub/ball.npy", "parts/sub/ball.ply"]
    model = sa3d.load_model("classify")
    wanted = model.predict(ids).probabilities  # type: ignore[union-attr]
    code, said, _ = predict("classify", "parts")
    assert code == 0
    rows = [line.split() for line in said.splitlines()]
    assert [row[-1] for row in rows] == ids
    assert [row[0] for row in rows] == [NAMES[at] for at in wanted.argmax(1)]
    assert [row[1] for row in rows] == [f"{value:.1%}" for value in wanted.max(1)]

    for name in ("a.csv", "a.parquet", "a.json"):
        assert predict("classify", "parts", "-q", "--out", name) == (0, "", "")
    with Path("a.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    columns = [f"p({name})" for name in NAMES]
    assert list(table[0]) == ["id", "class", "probability", *columns]
    assert [row["id"] for row in table] == ids
    found = np.array([[float(row[name]) for name in columns] for row in table])
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    assert pq.read_table("a.parquet").to_pylist() == [
        {key: value if key in ("id", "class") else float(value) for key, value in row.items()}
        for row in table
    ]
    tree = json.loads(Path("a.json").read_text())
    assert (tree["class_names"], tree["failures"]) == (list(NAMES), [])
    np.testing.assert_array_equal([row["probabilities"] for row in tree["clouds"]], found)


def test_one_bad_file_does_not_end_the_rest(predict: Predict) -> None:
    words = ("bad.ply", "parts/box.stl", "gone.npy", "*.xyz")
    for out in (("classify", "--out", "a.json"), ("segment", "--out", "o", "--category", "lamp")):
        code, said, told = predict(*out, *words)
        assert code == 1
        assert "box" in said
        assert sorted(told.splitlines()) == [
            "sa3d: 3 could not be read, as told above",
            "sa3d: bad.ply: not a whole .ply file: its header does not end",
            "sa3d: gone.npy: cannot be opened (No such file or directory)",
            "sa3d: no file fits the pattern '*.xyz'",
        ]
    failures = json.loads(Path("a.json").read_text())["failures"]
    assert [failure["id"] for failure in failures] == ["bad.ply", "gone.npy"]
    assert len(json.loads(Path("o/parts.json").read_text())["clouds"]) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("classify", "bad.ply", "--out", "a.csv"), "bad.ply: not a whole .ply file"),
        (("segment", "bad.ply", "--out", "o", "--category", "lamp"), "not a whole .ply file"),
        (("classify", "parts", "--out", "a.npz"), "a name that ends in .csv, .parquet, .json"),
        (("classify", "parts", "--category", "lamp"), "--category lamp: is for a part model"),
        (("classify", "-"), "no cloud was given"),
        (("segment", "parts"), "say which with --out FOLDER"),
        (("segment", "parts", "--out", "o"), "knows 3 categories and must be told which"),
        (("segment", "parts", "--out", "o", "--category", "lmap"), "did you mean 'lamp'?"),
        (("segment", "parts", "--out", "bad.ply", "--category", "lamp"), "is no folder"),
        ((str(BOXED), "parts"), "holds an encoder, which knows no classes"),
        (("gone", "parts"), "no exported model in gone"),
        (("bad.ply", "parts"), "is a file; give the folder of an exported model"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_writes_nothing(
    predict: Predict, words: tuple[str, ...], said: str
) -> None:
    before = set(Path().rglob("*"))
    code, out, told = predict(*words)
    assert (code, out) == (2, "")
    assert told.count("\n") == 1
    assert said in told
    assert set(Path().rglob("*")) == before


def test_parts_as_ply_and_npy(predict: Predict) -> None:
    code, said, _ = predict("segment", "parts", "--out", "o", "--category", "chair")
    assert code == 0
    assert said.splitlines()[-1] == "o/parts.json: 3 clouds"
    tree = json.loads(Path("o/parts.json").read_text())
    assert (tree["category"], tree["part_names"]) == ("chair", PARTS)
    places = ["box.parts.ply", "sub/ball.npy.parts.ply", "sub/ball.ply.parts.ply"]
    assert [cloud["ply"] for cloud in tree["clouds"]] == places

    model = sa3d.load_model("segment")
    for entry in tree["clouds"]:
        (wanted,) = model.predict(entry["id"], category="chair").clouds  # type: ignore
        labels = np.load(Path("o") / entry["npy"])
        np.testing.assert_array_equal(labels, wanted.labels)
        cloud = read_cloud_or_mesh(Path("o") / entry["ply"])
        assert isinstance(cloud, Cloud)
        np.testing.assert_array_equal(cloud.points, wanted.points)
        np.testing.assert_array_equal(cloud.parts, labels)
        counts = {name: int((labels == at).sum()) for at, name in enumerate(PARTS)}
        assert entry["points"] == {name: count for name, count in counts.items() if count}


def test_parts_are_no_clouds_the_next_time(tmp_path: Path) -> None:
    for name in ("a.ply", "a.parts.ply", "a.parts.npy", "b.parts.npy"):
        (tmp_path / name).touch()
    found = expand([str(tmp_path)], ())[0]
    assert [file.name for file in found] == ["a.ply", "b.parts.npy"], "parts come in pairs"


def test_a_point_is_coloured_by_its_part(predict: Predict) -> None:
    np.save("one.npy", np.random.default_rng(1).normal(size=(300, 3)).astype(np.float32))
    assert predict("segment", "one.npy", "--out", "o", "--category", "table", "-q")[0] == 0
    labels = np.load("o/one.parts.npy")
    colors = trimesh.load("o/one.parts.ply").colors[:, :3]
    pairs = {(label, *color) for label, color in zip(labels, colors.tolist(), strict=False)}
    assert len(pairs) == len(set(labels.tolist()))
    header = Path("o/one.parts.ply").read_bytes().partition(b"end_header")[0].decode()
    assert "comment label 3 is top" in header
    assert header.endswith("property float z\nproperty uchar red\nproperty uchar green\n"
                           "property uchar blue\nproperty int label\n")  # fmt: skip


def test_nothing_is_written_outside_the_folder(predict: Predict, tmp_path: Path) -> None:
    Path("deep/er").mkdir(parents=True)
    words = ["../" + tmp_path.name + "/parts/box.stl", str(tmp_path / "parts" / "sub" / "ball.ply")]
    before = {path for path in tmp_path.parent.rglob("*") if "o" not in path.parts}
    assert predict("segment", *words, "--out", "o", "--category", "lamp", "-q")[0] == 0
    assert sorted(str(path.relative_to("o")) for path in Path("o").rglob("*.ply")) == [
        "box.parts.ply",
        "sub/ball.parts.ply",
    ]
    assert {path for path in tmp_path.parent.rglob("*") if "o" not in path.parts} == before


def test_asking_for_a_registered_model_makes_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("SA3D_ROOT", str(tmp_path))
    with pytest.raises(UserError, match=r"^no MLflow store at .*/mlflow.db: run this in the"):
        sa3d.load_model("models:/x@champion")
    assert list(tmp_path.iterdir()) == []
