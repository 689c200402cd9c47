"""A fingerprint changes with what decides a result, and with nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sa3d import registry
from sa3d.config.loading import load_experiment
from sa3d.errors import CheckpointError, ConfigError, DataError
from sa3d.runs import fingerprint as fp

EXTENSIONS = Path(__file__).parents[1] / "extensions"


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
        ("pretrain", "pretrain.mask=block", True),
        ("pretrain", "pretrain.mask_ratio=0.7", True),
        ("pretrain", "pretrain.mask_ratio=0.61", False),  # 5 of 8 patches all the same
        ("pretrain", "pretrain.point_term=ground_truth_grad", True),
        ("pretrain", "pretrain.point_term=teacher_decoded_nograd", False),  # the method's own
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


@pytest.mark.parametrize(
    "override", ["pretrain.ema.ramp_epochs=7", "pretrain.gc_depth=2", "pretrain.switch_epoch=9"]
)
def test_what_only_the_method_reads_leaves_its_baseline_alone(tiny: Path, override: str) -> None:
    assert mark(tiny, "pretrain", override) != mark(tiny)
    assert mark(tiny, "pretrain", override, arm="baseline") == mark(tiny, arm="baseline")


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
    monkeypatch.setattr(fp, "code_digest", lambda *roots: "other")
    assert mark(tiny) != before


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the source that fingerprints are taken of; its caches are emptied."""
    folder = tmp_path / "sa3d"
    shutil.copytree(fp._PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fp, "_PACKAGE", folder)
    monkeypatch.setattr(fp, "code_digest", fp.code_digest.__wrapped__)
    return folder


@pytest.mark.parametrize(
    ("file", "tasks"),
    [
        ("models/transformer.py", {"pretrain", "svm", "classify"}),
        ("models/__init__.py", {"pretrain", "svm", "classify"}),
        ("models/point_mae.py", {"pretrain", "svm", "classify"}),  # the backbone named
        ("masking/geometric.py", {"pretrain"}),  # the mask named
        ("masking/block.py", set()),
        ("masking/random.py", set()),
        ("engine/loop.py", {"pretrain", "classify"}),
        ("line.py", set()),
        ("engine/signals.py", set()),
        ("tasks/evaluation.py", {"svm", "classify"}),
        ("tasks/classify.py", {"classify"}),
        ("components.py", set()),
        ("config.py", set()),
        ("cli.py", set()),
        ("tracking.py", set()),
        ("data/shapes.py", set()),
    ],
)
def test_code_counts_where_it_runs(tiny: Path, sources: Path, file: str, tasks: set[str]) -> None:
    kinds = ("pretrain", "svm", "classify")
    before = {task: mark(tiny, task) for task in kinds}
    with (sources / file).open("a") as source:
        source.write("# changed\n")
    assert {task for task in kinds if mark(tiny, task) != before[task]} == tasks


def test_imports_for_types_do_not_count_and_those_in_functions_do(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import a\nelse:\n    import b\n"
        "def f():\n    from . import c\n    from ..d import e\n"
    )
    found = fp._imports(tmp_path / "one.py", "sa3d.tasks")
    assert {"b", "sa3d.tasks.c", "sa3d.d", "sa3d.d.e"} <= found
    assert "a" not in found


def test_every_module_that_is_named_exists() -> None:
    for table in (registry.BACKBONES, registry.MASKS, registry.AUGMENTATIONS):
        assert all(fp._file(registry.place(e).partition(":")[0]) for e in table.values())
    assert all(fp._file(task.where.partition(":")[0]) for task in registry.TASKS.values())
    assert all(fp._file(module) for module in fp._NEUTRAL)


def test_the_number_of_processes_counts(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = mark(tiny)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert mark(tiny) == before
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert mark(tiny) != before


def test_kernels_count_and_are_the_same_in_a_checkout_and_in_a_wheel(
    tiny: Path, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path / "extensions"
    unbuilt = shutil.ignore_patterns("build", "*.egg-info", "*.so", "__pycache__", "compat")
    shutil.copytree(EXTENSIONS, checkout, ignore=unbuilt)
    built = tmp_path / "built"
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(built)],
        cwd=checkout,
        env=os.environ | {"POINT_OPS_BUILD": "0"},
        check=True,
        capture_output=True,
    )

    def from_(folder: Path) -> str:
        spec = SimpleNamespace(submodule_search_locations=[str(folder / "point_ops")])
        monkeypatch.setattr(fp.importlib.util, "find_spec", lambda name: spec)
        return mark(tiny)

    before = from_(checkout)
    assert from_(built) == before
    with (checkout / "csrc" / "fps.h").open("a") as source:
        source.write("// changed\n")
    assert from_(checkout) != before
    shutil.rmtree(built / "point_ops" / "csrc")
    with pytest.raises(ConfigError, match="lacks the sources of its kernels; run `make setup`"):
        from_(built)


def test_missing_and_foreign_data(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"`dvc repro prepare@absent` \(or `sa3d data prepare absent`\)"
    ):
        mark(tiny, clouds=tmp_path / "absent.h5")
    (tmp_path / "broken.h5").write_bytes(b"x" * 100)
    with pytest.raises(DataError, match=r"damaged or of another kind.*prepare@broken"):
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
    code = "import sys, sa3d.runs.fingerprint; print([m for m in ('torch', 'h5py') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


SCALES = ("model.backbone=point-m2ae", "model.groups=[24, 12, 8]", "model.group_sizes=[4, 4, 4]")


def test_pooling_said_or_left_to_the_backbone_is_the_same_run(tiny: Path) -> None:
    assert mark(tiny, "classify", "classify.pooling=cls_max") == mark(tiny, "classify")
    plain = mark(tiny, "classify", *SCALES)
    assert mark(tiny, "classify", *SCALES, "classify.pooling=sum") == plain
    assert mark(tiny, "classify", *SCALES, "classify.pooling=concat") != plain


def test_what_only_fine_tuning_reads_does_not_repeat_pre_training(tiny: Path) -> None:
    near = (*SCALES, "model.radii=[0.1, 0.2, 0.3]")
    for task in ("pretrain", "svm"):
        assert mark(tiny, task, *SCALES) == mark(tiny, task, *near)
    assert mark(tiny, "classify", *SCALES) != mark(tiny, "classify", *near)


def test_heads_count_for_the_task_that_trains_them_alone() -> None:
    whole = {
        name: fp.code_of(fp._roots(name, SECTIONS)) for name in ("pretrain", "svm", "classify")
    }
    head = "sa3d.models.point_mae.heads"
    assert {name for name, found in whole.items() if head in found} == {"classify"}
    assert not any("m2ae" in module for found in whole.values() for module in found)


SECTIONS = {"model": {"backbone": "point-mae"}, "pretrain": {"mask": "gc", "augment": "none"}}
