"""Exported files answer what the model answers, of any number of clouds and of points."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnxscript import opset18 as op

from sa3d.checkpoints.export import export_model
from sa3d.data.preprocessing import Preprocessing
from sa3d.deploy import onnx_operators, parity, writing
from sa3d.deploy.deployable import deployable
from sa3d.errors import CheckpointError, UserError
from sa3d.inference.locating import BOXED
from tests.small_models import CLASSES, MODELS, saved


def asked(path: Path, **feeds: np.ndarray) -> list[np.ndarray]:
    """What a file answers, whatever its format."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return list(session.run(None, feeds))
    program = torch.export.load(path).module()
    with torch.no_grad():
        found = program(*map(torch.from_numpy, feeds.values()))
    return [each.numpy() for each in (found if isinstance(found, tuple) else (found,))]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
@pytest.mark.parametrize("backbone", list(MODELS))
@pytest.mark.parametrize("kind", ["pretrain", "classifier", "taught", "segmenter"])
def test_every_kind_answers_as_the_model(
    tmp_path: Path, kind: str, backbone: str, suffix: str
) -> None:
    folder = saved(tmp_path / "model", kind, backbone)
    written = writing.export(folder, tmp_path / f"model{suffix}")
    assert written.difference <= 1e-4
    assert written.size == written.path.stat().st_size
    model = deployable(folder)
    rng = np.random.default_rng(5)
    for batch, count in [(1, 7), (2, 32), (5, 100)]:
        clouds = rng.normal(size=(batch, count, 3)).astype(np.float32)
        categories = rng.integers(0, 3, batch)
        feeds = {"points": clouds, "category": categories}
        found = asked(written.path, **{name: feeds[name] for name in model.inputs})
        with torch.no_grad():
            wanted = model.answer(list(clouds), categories)
        for ours, theirs in zip(wanted, found, strict=True):
            np.testing.assert_allclose(theirs, ours.numpy(), atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("normalisation", ["cloud", "none"])
def test_scaling_is_that_of_the_model_and_the_file_says_what_is_inside(
    tmp_path: Path, normalisation: Any
) -> None:
    prepared = Preprocessing(32, normalisation)
    folder = saved(tmp_path / "model", "classifier", "point-mae", prepared)
    out = writing.export(folder, tmp_path / "model.onnx").path
    told = {each.key: each.value for each in onnx.load(out).metadata_props}
    card = json.loads((folder / "model.json").read_text())
    assert json.loads(told["sa3d.card"]) == card
    assert json.loads(told["sa3d.class_names"]) == CLASSES
    assert told["sa3d.sha256"] == card["sha256"]
    assert told["sa3d.kind"] == "classifier"
    assert "32 farthest points" in told["sa3d.inside"]
    onnx.checker.check_model(onnx.load(out))
    assert b"graph.py" not in out.read_bytes()  # nothing of where it was made
    cloud = np.random.default_rng(0).normal(2.0, 3.0, (1, 50, 3)).astype(np.float32)
    (logits,) = asked(out, points=cloud)
    (moved,) = asked(out, points=2 * cloud)
    assert np.allclose(logits, moved, atol=1e-4) == (normalisation == "cloud")


@pytest.mark.slow
def test_a_category_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", "segmenter", "point-mae")
    out = writing.export(folder, tmp_path / "model.onnx").path
    cloud = np.random.default_rng(0).normal(size=(1, 40, 3)).astype(np.float32)
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument):
        asked(out, points=cloud, category=np.array([3]))


@pytest.mark.slow
def test_a_program_of_torch_needs_point_ops_alone(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", "pretrain", "point-mae")
    out = writing.export(folder, tmp_path / "model.pt2").path
    assert b"graph.py" not in out.read_bytes()  # nothing of where it was made
    code = (
        "import sys, torch, point_ops\n"
        "extra = {'sa3d.kind': ''}\n"
        f"program = torch.export.load({str(out)!r}, extra_files=extra).module()\n"
        "print(extra['sa3d.kind'], *program(torch.rand(2, 50, 3)).shape)\n"
        "assert not any(name.startswith('sa3d') for name in sys.modules)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert said.stdout.split() == ["pretrain", "2", "12"]


@pytest.mark.slow
def test_a_translation_that_is_wrong_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(tmp_path / "model", "pretrain", "point-mae")

    def first_rows(points: Any, start: Any, lengths: Any, n_samples: int) -> Any:
        zero, one = op.Constant(value_int=0), op.Constant(value_int=1)
        rows = op.Range(zero, op.Constant(value_int=n_samples), one)
        shape = op.Concat(op.Shape(start), op.Constant(value_ints=[n_samples]), axis=0)
        return op.Expand(rows, shape)

    monkeypatch.setitem(onnx_operators.TRANSLATIONS, torch.ops.point_ops.fps.default, first_rows)
    out = tmp_path / "model.onnx"
    out.write_bytes(b"before")
    with pytest.raises(CheckpointError, match=r"differs from the model by .*nothing was written"):
        writing.export(folder, out)
    assert out.read_bytes() == b"before"


def test_clouds_for_asking_are_exact_and_have_equal_distances() -> None:
    rng = np.random.default_rng(3)
    for count in (32, 33):
        cloud = parity.exact_cloud(count, rng)
        assert cloud.mean(axis=0).tolist() == [2.0, -1.0, 0.5]
        radii = np.square(cloud - cloud.mean(axis=0)).sum(axis=1)
        assert radii.max() == 16.0
        assert len(np.unique(radii)) < count  # a point and its image are equally far away


def test_other_files_and_other_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--out model.tflite: .*\.onnx, \.pt2"):
        writing.check_format(Path("model.tflite"))
    export_model(tmp_path / "odd", {"x": torch.zeros(1)}, {"kind": "poem"})
    with pytest.raises(CheckpointError, match="holds a poem"):
        deployable(tmp_path / "odd")


@pytest.mark.slow
def test_the_encoder_in_the_box_from_the_command_line(tmp_path: Path) -> None:
    out = tmp_path / "encoder.onnx"
    said = subprocess.run(
        [sys.executable, "-m", "sa3d", "export", "--out", str(out)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.startswith(f"{out}: ")
    assert said.stderr == ""
    features = np.asarray(
        asked(out, points=parity.exact_cloud(64, np.random.default_rng(0))[None])[0]
    )
    assert features.shape == (1, deployable(BOXED).card["model"]["dim"])
