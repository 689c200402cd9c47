"""``sa3d show``: each kind of picture, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image
from typer.testing import CliRunner

from sa3d.cli.main import app
from sa3d.data.cloud_table import Cloud, CloudTable
from sa3d.data.writing import write_clouds
from sa3d.errors import DataError
from sa3d.masking.gc.settings import GeometricMaskConfig
from sa3d.metrics.classification import classification
from sa3d.show import runs, sets
from sa3d.viz.explain import Explained, save_explain
from sa3d.viz.segmented import Segmented, save_segmented

Call = Callable[..., tuple[int, str, str]]

EPOCHS, PATCHES, MASKED = 10, 16, 8


def explained(scores: bool = True, seed: int = 0) -> Explained:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(2, 64, 3)).astype(np.float32)
    mask = np.zeros((2, PATCHES), dtype=bool)
    mask[:, :MASKED] = True
    return Explained(
        points=points,
        centers=points[:, :PATCHES],
        patch_index=np.tile(np.arange(64).reshape(PATCHES, 4), (2, 1, 1)),
        gc=rng.normal(size=(2, PATCHES)).astype(np.float32) if scores else None,
        mask=mask,
        hard=mask & (np.arange(PATCHES) < 4) if scores else np.zeros_like(mask),
        rebuilt=rng.normal(size=(2, MASKED, 4, 3)).astype(np.float32),
        labels=np.array([0, 1]),
        class_names=("cube", "ball"),
    )


def run(folder: Path, task: str, **result: object) -> Path:
    """A finished run with the least that is read of it."""
    folder.mkdir()
    spec = {"task": task, "variant": "ours", "data": "toys", "seed": 3}
    mask = GeometricMaskConfig().model_dump()
    config = {"spec": spec, "settings": {"epochs": EPOCHS, "mask": mask}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "result.json").write_text(json.dumps({"spec": spec, **result}))
    return folder


@pytest.fixture
def show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """``sa3d show`` beside a run of each kind: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    save_explain(run(Path("pre"), "pretrain", artifacts={"explain": "explain.npz"})
                 / "explain.npz", explained())  # fmt: skip
    save_explain(run(Path("plain"), "pretrain", artifacts={"explain": "explain.npz"})
                 / "explain.npz", explained(scores=False))  # fmt: skip
    truth = np.arange(128).reshape(2, 64) % 2
    parts = Segmented(explained().points, truth, np.zeros_like(truth), np.array([0, 0]), ("cube",),
                      ("cube lid", "cube body"), ((0, 1),))  # fmt: skip
    save_segmented(run(Path("seg"), "segment", artifacts={"examples": "parts.npz"}) / "parts.npz",
                   parts)  # fmt: skip
    _, confusion = classification(np.array([0, 0, 1]), np.array([0, 1, 1]), ("cube", "<ball>"))
    run(Path("cls"), "classify", details={"confusion": confusion}, metrics={"test/acc": 2 / 3})
    trimesh.creation.box().export("box.stl")

    def call(*words: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, ["show", *words])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    return call


KINDS = {
    "cloud": ("cloud", "box.stl"),
    "mask": ("mask", "pre"),
    "plain-mask": ("mask", "plain", "--mask", "random"),
    "complexity": ("complexity", "pre"),
    "reconstruction": ("reconstruction", "pre"),
    "parts": ("parts", "seg"),
    "confusion": ("confusion", "cls"),
}


@pytest.mark.parametrize("words", KINDS.values(), ids=KINDS)
def test_every_kind_in_every_format(show: Call, words: tuple[str, ...]) -> None:
    for name in ("a.png", "a.svg", "a.html"):
        assert show(*words, "--out", name) == (0, f"{name}\n", "")
    with Image.open("a.png") as image:
        assert min(image.size) > 250
        assert len(image.convert("L").getcolors()) > 40, "not a blank"
    assert Path("a.svg").read_text().startswith("<?xml")
    assert Path("a.html").read_text().startswith("<!DOCTYPE html>")


def words_of(name: str) -> str:
    """Text of an SVG with fonts kept as text."""
    return Path(name).read_text()


def test_pictures_say_what_they_show(show: Call) -> None:
    assert show("mask", "pre", "--epoch", "1", "--epoch", "10", "--out", "m.svg", "-q")[1] == ""
    for text in (
        "epoch 1: 0 of 8 hard",
        "epoch 10: 4 of 8 hard",
        "Mask of ours on toys, seed 3: gc",
    ):
        assert text in words_of("m.svg")
    show("parts", "seg", "--out", "p.svg")
    assert "50.0 % wrong" in words_of("p.svg")
    assert "lid" in words_of("p.svg")
    show("confusion", "cls", "--out", "c.svg")
    assert "66.7 % of 3 test clouds right" in words_of("c.svg")
    show("confusion", "cls", "--out", "c.html")
    assert "<ball>" not in Path("c.html").read_text().rpartition("Plotly.newPlot(")[2]


def test_the_curriculum_moves(show: Call) -> None:
    assert show("curriculum", "pre")[:2] == (0, "curriculum.gif\n")
    with Image.open("curriculum.gif") as image:
        assert image.n_frames == EPOCHS
        image.seek(0)
        first = image.convert("L").tobytes()
        image.seek(EPOCHS - 1)
        assert image.convert("L").tobytes() != first
    show("curriculum", "pre", "--out", "c.html")
    page = Path("c.html").read_text()
    assert page.count("data:image/png;base64,") == EPOCHS
    assert "epoch 10: 4 of 8 hard" in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("mask", "cls"), "cls is a run of `sa3d classify`; this picture needs one of pretrain"),
        (("mask", "gone"), "gone is not the folder of a finished run: it has no config.json"),
        (("mask", "pre", "--epoch", "11"), "--epoch 11: the run has 10 epochs"),
        (("mask", "pre", "--mask", "gcc"), "gcc"),
        (("mask", "plain"), "mask strategy gc chooses by predicted complexity"),
        (("complexity", "plain"), "the method of plain predicts no complexity"),
        (("confusion", "pre"), "pre is a run of `sa3d pretrain`"),
        (("cloud", "gone.ply"), "gone.ply: cannot be opened"),
        (("cloud", "box.stl", "--out", "a.gif"), "give a name that ends in .png, .svg, .html"),
        (("curriculum", "pre", "--out", "a.png"), "give a name that ends in .gif, .html"),
        (("data", "nothing.h5"), "nothing.h5"),
        (("map", "nothing.h5"), "nothing.h5"),
    ],
)
def test_what_is_refused(show: Call, words: tuple[str, ...], said: str) -> None:
    before = sorted(Path().rglob("*"))
    code, out, told = show(*words)
    assert (code, out) == (2, "")
    assert said in told
    assert told.count("\n") <= 2
    assert sorted(Path().rglob("*")) == before


def test_a_damaged_result_is_said(show: Call) -> None:
    Path("pre/result.json").write_text("{")
    with pytest.raises(DataError, match=r"result\.json is damaged"):
        runs.open_run(Path("pre"), task="pretrain")
    Path("pre/result.json").write_text("[]")
    with pytest.raises(DataError, match="is not the result of a run"):
        runs.open_run(Path("pre"), task="pretrain")


def test_masks_of_the_curriculum(show: Call) -> None:
    opened = runs.open_run(Path("pre"), task="pretrain")
    data = explained()
    hardest = np.argsort(-data.gc, axis=1)
    for epoch in range(EPOCHS):
        ((_, drawn),) = runs.masks_of(opened, data, [epoch])
        budget = MASKED * (epoch + 1) // (2 * EPOCHS)
        assert (drawn.mask.sum(axis=1) == MASKED).all()
        for cloud in range(2):
            assert drawn.mask[cloud, hardest[cloud, :budget]].all()
            assert set(np.flatnonzero(drawn.hard[cloud])) == set(hardest[cloud, :budget])


@pytest.mark.parametrize(("most", "said"), [(36, "its 2 classes"), (1, "1 of its 2 classes")])
def test_a_sheet_of_a_data_set_says_how_many_classes_it_shows(
    show: Call, most: int, said: str
) -> None:
    rng = np.random.default_rng(0)
    shapes = [Cloud(rng.normal(size=(64, 3)).astype(np.float32)) for _ in range(4)]
    table = CloudTable(
        ids=["a", "b", "c", "d"],
        labels=np.array([0, 1, 0, 1]),
        split=np.array([0, 0, 1, 1], dtype=np.uint8),
        family=np.arange(4),
        class_names=("one", "two"),
        source_hash="f00",
        normalisation="subsample",
    )
    write_clouds(Path("toys.h5"), shapes, table)
    assert show("data", "toys.h5", "--clouds", str(most), "--out", "a.svg")[0] == 0
    assert f"toys: {said}" in words_of("a.svg")


def test_epochs_reach_from_first_to_last() -> None:
    assert runs.spread_epochs(1) == [0]
    assert runs.spread_epochs(3) == [0, 1, 2]
    assert runs.spread_epochs(300, 4) == [0, 100, 199, 299]


def test_a_flat_copy_of_features_keeps_groups_together() -> None:
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(at, 0.1, size=(20, 8)) for at in (0.0, 5.0)])
    for how in ("pca", "tsne"):
        places = sets._reduced(features.astype(np.float32), how, 0)
        np.testing.assert_array_equal(places, sets._reduced(features.astype(np.float32), how, 0))
        gap = np.linalg.norm(places[:, None] - places[None], axis=2)
        assert gap[:20, :20].max() < gap[:20, 20:].min()
