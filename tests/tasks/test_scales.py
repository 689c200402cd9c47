"""The hierarchical backbone by the command line alone: no task, report or server knows of it."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from sa3d import registry
from sa3d.cli import main as cli
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


@pytest.mark.usefixtures("one_thread")
def test_method_tasks_pictures_and_server(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    words = ["-e", "tiny", "--device", "cpu"]
    for setting in SCALES:
        words += ["--set", setting]
    done = CliRunner().invoke(cli.app, ["pretrain", *words])
    assert done.exit_code == 0, done.output
    (method,) = work().glob("pretrain-method-*")
    result = json.loads((method / "result.json").read_text())
    assert result["protocol"]["point_term"] == "ground_truth_grad"

    explained = load_explain(method / "explain.npz")
    assert explained.rebuilt.shape[2] == 3 * 8  # members of a coarse patch x points of each
    assert np.isnan(explained.rebuilt).any(), "some members are visible through other patches"
    points, states = rebuilt_points(explained, 0)
    assert len(points) == len(states) > 0
    assert np.isfinite(points).all()

    for task in registry.downstream():
        done = CliRunner().invoke(cli.app, [task, *words, "--from", str(method)])
        assert done.exit_code == 0, done.output
        (folder,) = work().glob(f"{task}-method-*")
        assert json.loads((folder / "result.json").read_text())["arm"] == "method"
    server = FeatureModel(method / "model")
    clouds = np.random.default_rng(0).normal(size=(3, 64, 3)).astype(np.float32)
    features = server.predict(clouds)
    assert features.shape == (3, 16)
    np.testing.assert_allclose(server.predict(clouds[1])[0], features[1], atol=1e-5)


@pytest.mark.usefixtures("one_thread")
def test_fine_tuning_may_cut_clouds_otherwise_and_frozen_features_may_not(
    tiny, tmp_path, monkeypatch
):
    """As published for ScanObjectNN: pre-trained on small patches, fine-tuned on larger ones."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    words = ["-e", "tiny", "--device", "cpu"]
    for setting in (*SCALES, "pretrain.method=mae", "pretrain.mask=random"):
        words += ["--set", setting]
    done = CliRunner().invoke(cli.app, ["pretrain", *words])
    assert done.exit_code == 0, done.output
    (method,) = work().glob("pretrain-method-*")
    more = ["--set", "model.group_sizes=[12, 6, 4]", "--set", "classify.pooling=concat"]
    done = CliRunner().invoke(cli.app, ["classify", *words, *more, "--from", str(method)])
    assert done.exit_code == 0, done.output
    (folder,) = work().glob("classify-method-*")
    protocol = json.loads((folder / "result.json").read_text())["protocol"]
    assert protocol["pooling"] == "concat"
    assert "tensors loaded" in protocol["encoder"]

    done = CliRunner().invoke(cli.app, ["svm", *words, *more, "--from", str(method)])
    assert done.exit_code == 2
    assert "group_sizes=[8, 4, 3] there, group_sizes=[12, 6, 4] here" in done.output
    done = CliRunner().invoke(cli.app, ["svm", "-e", "tiny", "--from", str(method)])
    assert done.exit_code == 2
    assert "another model: backbone=point-m2ae there, backbone=point-mae here." in done.output


def test_a_server_refuses_a_model_of_a_backbone_that_is_not_registered(tmp_path):
    card = {"sha256": "0" * 64, "model": {"backbone": "point-x"}}
    (tmp_path / "model.json").write_text(json.dumps(card))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="unknown backbone 'point-x'"):
        FeatureModel(tmp_path)
