"""``sa3d teach``: folders of clouds in, a model for ``sa3d predict`` out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh
from exported import export_classifier, export_encoder
from typer.testing import CliRunner

import sa3d
from sa3d.checkpoints.card import model_digest
from sa3d.cli.main import app
from sa3d.inference.classes import ClassPredictor
from sa3d.inference.locating import BOXED

Call = Callable[..., tuple[int, str, str]]


def cloud(kind: str, seed: int) -> np.ndarray:
    """A box or a ball of random proportions."""
    rng = np.random.default_rng(seed)
    shape = trimesh.creation.box() if kind == "box" else trimesh.creation.icosphere()
    shape.apply_scale(rng.uniform(0.8, 1.2, 3))
    return np.asarray(shape.sample(600, seed=seed))


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """``sa3d …`` in a folder with clouds of two classes: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sa3d.inference.teaching._REPEATS", 1)  # of the folds: to be quick
    for at, kind in enumerate(("ball", "box")):
        Path("shapes", kind).mkdir(parents=True)
        for seed in range(6):
            np.save(Path("shapes", kind, f"{seed}.npy"), cloud(kind, seed + 10 * at))

    def run(*words: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, words)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    return run


def test_a_taught_model_knows_new_clouds_and_stands_alone(call: Call) -> None:
    code, said, told = call("teach", "shapes", "--out", "mine")
    assert (code, told) == (0, "")
    lines = said.splitlines()
    assert lines[0] == "12 clouds of 2 classes: ball 6, box 6"
    assert lines[1].startswith("accuracy on clouds left out: 100.0% (95 % interval ")
    assert lines[1].endswith("always saying the largest class: 50.0%")
    card = json.loads(Path("mine/model.json").read_text())
    assert (card["kind"], card["class_names"]) == ("taught", ["ball", "box"])
    assert card["clouds"] == {"ball": 6, "box": 6}
    assert card["encoder"] == model_digest(BOXED)
    assert card["measured"]["accuracy"] == 1.0
    low, high = card["measured"]["interval"]
    assert 0.5 < low < high == 1.0
    assert Path("mine/model.safetensors").stat().st_size < 8e6

    shutil.rmtree("shapes")
    model = sa3d.load_model("mine")
    assert isinstance(model, ClassPredictor)
    found = model.predict([cloud("ball", 99), cloud("box", 98)])
    assert found.classes == ("ball", "box")
    np.save("new.npy", cloud("box", 97))
    code, said, _ = call("predict", "mine", "new.npy")
    assert code == 0
    assert said.split()[0] == "box"


def test_another_encoder(call: Call) -> None:
    export_encoder(Path("own"))
    assert call("teach", "shapes", "--out", "mine", "--encoder", "own", "-q")[0] == 0
    card = json.loads(Path("mine/model.json").read_text())
    assert card["encoder"] == model_digest(Path("own"))
    assert card["preprocessing"]["points"] == 128
    assert sa3d.load_model("mine").predict(cloud("box", 1)).ids == ("0",)


def test_the_axis_of_the_examples_is_that_of_what_is_asked(call: Call) -> None:
    assert call("teach", "shapes", "--out", "mine", "--up", "z", "-q")[0] == 0
    model, asked = sa3d.load_model("mine"), cloud("box", 5)
    assert isinstance(model, ClassPredictor)
    said, told, other = (
        model.predict(asked, up=up).probabilities
        for up in (None, "z", "y")  # type: ignore
    )
    np.testing.assert_array_equal(said, told)
    assert not np.array_equal(said, other)


def test_unreadable_clouds_are_named_and_left_out(call: Call) -> None:
    Path("shapes/box/bad.ply").write_text("not a ply")
    code, said, told = call("teach", "shapes", "--out", "mine")
    assert code == 1
    assert said.startswith("12 clouds of 2 classes: ball 6, box 6\n")
    assert told.splitlines() == [
        "sa3d: shapes/box/bad.ply: not a whole .ply file: its header does not end",
        "sa3d: 1 could not be read, as told above",
    ]


def test_of_few_clouds_nothing_is_said(call: Call) -> None:
    for seed in range(2, 6):
        Path(f"shapes/box/{seed}.npy").unlink()
    code, said, _ = call("teach", "shapes", "--out", "mine")
    assert code == 0
    assert "how well it does cannot be said: box with fewer than 5 clouds" in said
    assert json.loads(Path("mine/model.json").read_text())["measured"]["accuracy"] is None


def one_class() -> None:
    shutil.rmtree("shapes/box")


def one_cloud() -> None:
    for seed in range(1, 6):
        Path(f"shapes/box/{seed}.npy").unlink()


def all_bad() -> None:
    for file in Path("shapes/box").iterdir():
        np.save(file, np.zeros((9, 3)))


def divided() -> None:
    for split in ("train", "test"):
        shutil.copytree("shapes", f"divided/{split}")
    shutil.rmtree("shapes")
    Path("divided").rename("shapes")


def trained() -> None:
    export_classifier(Path("trained"))
    Path("trained/model").rename("mine")


@pytest.mark.parametrize(
    ("change", "words", "said"),
    [
        (one_class, (), "no two folders with clouds"),
        (one_cloud, (), "class 'box' has 1 clouds, at least 2 are needed"),
        (all_bad, (), "class 'box' has 0 usable clouds, at least 2 are needed: "),
        (divided, (), "is divided into train and test"),
        (trained, (), "--out mine: a trained model is there"),
        (lambda: shutil.rmtree("shapes"), (), "no folder shapes"),
        (lambda: Path("mine").touch(), (), "is no folder"),
        (lambda: None, ("--encoder", "gone"), "no exported model in gone"),
        (lambda: export_classifier(Path("c")), ("--encoder", "c"), "holds a classifier, not a pre"),
    ],
)
def test_what_cannot_be_taught_is_one_line_and_writes_nothing(
    call: Call, change: Callable[[], object], words: tuple[str, ...], said: str
) -> None:
    change()
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    code, out, told = call("teach", "shapes", "--out", "mine", *words)
    assert (code, out) == (2, "")
    assert told.count("\n") == 1
    assert said in told
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before
