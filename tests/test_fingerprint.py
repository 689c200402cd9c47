"""A fingerprint changes with what decides a result, and with nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sa3d import fingerprint as fp
from sa3d.errors import CheckpointError, DataError
from sa3d.params import load_experiment


def mark(root: Path, task: str = "pretrain", *overrides: str, **changes: Any) -> str:
    config = load_experiment("tiny", root / "params.yaml", overrides)
    clouds = root / "data" / "processed" / "tiny.h5"
    return fp.fingerprint(task, config, **{"arm": "method", "clouds": clouds} | changes)


def model(folder: Path, sha: str) -> Path:
    folder.mkdir()
    (folder / fp.MODEL_FILE).write_text(json.dumps({"sha256": sha}))
    (folder / fp.WEIGHTS_FILE).write_bytes(b"")
    return folder


def test_short_hex_and_stable(tiny: Path) -> None:
    assert mark(tiny) == mark(tiny)
    assert len(mark(tiny)) == 16
    assert int(mark(tiny), 16) >= 0


@pytest.mark.parametrize(
    ("task", "override", "changes"),
    [
        ("pretrain", "pretrain.lr=0.5", True),
        ("pretrain", "seed=2", True),
        ("pretrain", "model.dim=32", True),
        ("pretrain", "data.points=32", True),
        ("pretrain", "svm.folds=3", False),
        ("pretrain", "classify.lr=0.5", False),
        ("pretrain", "baseline.lr=0.5", False),
        ("pretrain", "description=other", False),
        ("pretrain", "data.val_fraction=0.3", False),
        ("svm", "svm.folds=3", True),
        ("svm", "pretrain.lr=0.5", False),
        ("svm", "data.val_fraction=0.3", False),
        ("classify", "data.val_fraction=0.3", True),
        ("classify", "classify.lr=0.5", True),
        ("classify", "svm.folds=3", False),
    ],
)
def test_only_what_the_stage_reads_counts(
    tiny: Path, task: str, override: str, changes: bool
) -> None:
    assert (mark(tiny, task) != mark(tiny, task, override)) is changes


def test_task_arm_and_upstream_models_count(tiny: Path, tmp_path: Path) -> None:
    one, two = model(tmp_path / "one", "1"), model(tmp_path / "two", "2")
    marks = {
        mark(tiny),
        mark(tiny, arm="baseline"),
        mark(tiny, knowledge_teacher=one),
        mark(tiny, "svm"),
        mark(tiny, "svm", init=one),
        mark(tiny, "svm", init=two),
    }
    assert len(marks) == 6


def test_code_counts(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = mark(tiny)
    monkeypatch.setattr(fp, "code_digest", lambda task: "other")
    assert mark(tiny) != before


def test_code_digest_covers_the_rooms_of_a_task() -> None:
    names = {name for name, _ in fp._sources("pretrain")}
    assert {"config.py", "engine/loop.py", "models/sa3d.py", "tasks/pretrain.py"} <= names
    assert {"data/loader.py", "losses/chamfer.py", "point_ops/fps.py"} <= names
    # neither another task nor what only makes data or pictures
    assert not names & {"tasks/classify.py", "data/shapes.py", "cli.py", "tracking.py"}
    for patterns in (fp._COMMON, *fp._OWN.values()):
        for pattern in patterns:
            assert list(fp._PACKAGE.glob(pattern)), pattern


def test_missing_and_foreign_data(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="sa3d data prepare absent"):
        mark(tiny, clouds=tmp_path / "absent.h5")
    (tmp_path / "broken.h5").write_bytes(b"x" * 100)
    with pytest.raises(DataError, match="damaged or of another kind"):
        mark(tiny, clouds=tmp_path / "broken.h5")


def test_find_model(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(CheckpointError, match="no exported model in"):
        fp.find_model(folder)
    inner = model(folder / "model", "1")
    assert fp.find_model(folder) == fp.find_model(inner) == inner
    (inner / fp.MODEL_FILE).write_text("{")
    with pytest.raises(CheckpointError, match="cannot read"):
        fp.model_digest(folder)


def test_importing_it_costs_no_torch() -> None:
    code = "import sys, sa3d.fingerprint; print([m for m in ('torch', 'h5py') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
