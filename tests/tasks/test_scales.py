"""The hierarchical backbone by the command line alone: no task, report or server knows of it."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from sa3d.checkpoints.export import FORMAT
from sa3d.cli import main as cli
from sa3d.config.loading import load_experiment
from sa3d.errors import CheckpointError
from sa3d.inference.serving import FeatureModel
from sa3d.utils.paths import work
from sa3d.viz.explain import load_explain, rebuilt_points

SCALES = [
    "model.backbone=point-m2ae",
    "model.groups=[24, 12, 8]",
    "model.group_sizes=[8, 4, 3]",
    "model.dims=[8, 12, 16]",
    "model.depths=[1, 1, 1]",
    "model.heads=2",
    "model.embed_width=8",
]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _store(tiny, tmp_path, monkeypatch):
    """The tiny project, with an MLflow store of the test's own."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")


def invoke(task: str, *words: str, settings: list[str] = SCALES, code: int = 0) -> str:
    """What the command prints."""
    given = [word for setting in settings for word in ("--set", setting)]
    done = CliRunner().invoke(cli.app, [task, "-e", "tiny", "--device", "cpu", *given, *words])
    assert done.exit_code == code, done.output
    return done.output


def result_of(pattern: str) -> tuple[Path, dict]:
    """The one run folder of that name, and its result."""
    (folder,) = work().glob(pattern)
    return folder, json.loads((folder / "result.json").read_text())


@pytest.mark.slow
def test_method_tasks_pictures_and_server():
    invoke("pretrain")  # its knowledge teacher first
    result_of("pretrain-tiny-random-masks-s1-*")
    method, result = result_of("pretrain-tiny-sa3df-s1-*")
    assert result["protocol"]["teacher_decodes"] is False

    explained = load_explain(method / "explain.npz")
    assert explained.rebuilt.shape[2] == 3 * 8  # members of a coarse patch x points of each
    assert np.isnan(explained.rebuilt).any(), "some members are visible through other patches"
    points, states = rebuilt_points(explained, 0)
    assert len(points) == len(states) > 0
    assert np.isfinite(points).all()

    for task in dict.fromkeys(each.task for each in load_experiment("tiny").evaluate):
        invoke(task)
        _, result = result_of(f"{task}-*tiny-sa3df-s1-*")
        assert result["spec"]["start"]["variant"] == "sa3df"
        assert result["protocol"]["encoder"].startswith("pre-trained")
    server = FeatureModel(method / "model")
    clouds = np.random.default_rng(0).normal(size=(3, 64, 3)).astype(np.float32)
    features = server.predict(clouds)
    assert features.shape == (3, 16)
    np.testing.assert_allclose(server.predict(clouds[1])[0], features[1], atol=1e-5)


@pytest.mark.slow
def test_what_follows_pre_training_may_cut_clouds_otherwise():
    """As published for ScanObjectNN: pre-trained on small patches, fine-tuned on larger ones.
    Frozen features may as well: only the encoder is loaded."""
    plain = ["--variant", "random-masks"]
    invoke("pretrain", *plain)
    result_of("pretrain-tiny-random-masks-s1-*")
    larger = [f"evaluate.{t}.model.group_sizes=[12, 6, 4]" for t in ("classify", "svm")]
    more = [*SCALES, *larger, "evaluate.classify.settings.pooling=concat"]
    invoke("classify", *plain, settings=more)  # finds the pre-training, which this leaves alone
    folder, result = result_of("classify-tiny-random-masks-s1-*")
    assert result["protocol"]["pooling"] == "concat"
    assert "tensors loaded" in result["protocol"]["encoder"]
    told = json.loads((folder / "config.json").read_text())["model"]
    assert told["group_sizes"] == [12, 6, 4]

    invoke("svm", *plain, settings=more)
    folder, result = result_of("svm-tiny-random-masks-s1-*")
    assert result["protocol"]["encoder"] == "pre-trained"
    assert json.loads((folder / "config.json").read_text())["model"]["group_sizes"] == [12, 6, 4]


def test_a_model_of_another_shape_or_backbone_is_refused():
    plain = ["--variant", "random-masks"]
    invoke("pretrain", *plain)
    folder, _ = result_of("pretrain-tiny-random-masks-s1-*")
    wide = [*SCALES, "evaluate.svm.model.dims=[8, 12, 32]"]
    said = invoke("svm", *plain, settings=wide, code=2)
    assert "an evaluation may change only group_sizes, groups, radii" in said
    said = invoke("svm", *plain, "--from", str(folder), settings=[], code=2)
    assert "another model: backbone=point-m2ae there, backbone=point-mae here." in said
    assert not list(work().glob("svm-*/result.json"))


def test_a_server_refuses_a_model_of_a_backbone_that_is_not_registered(tmp_path):
    card = {
        "format": FORMAT,
        "kind": "pretrain",
        "sha256": "0" * 64,
        "model": {"backbone": "point-x"},
    }
    (tmp_path / "model.json").write_text(json.dumps(card))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="unknown backbone 'point-x'"):
        FeatureModel(tmp_path)
