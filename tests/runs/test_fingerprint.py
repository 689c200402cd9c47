"""A fingerprint changes with what decides a result, and with nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from sa3d.checkpoints.card import MODEL_FILE, WEIGHTS_FILE, find_model, model_digest
from sa3d.config.loading import load_experiment
from sa3d.errors import CheckpointError, DataError, UserError
from sa3d.runs import fingerprint as fp
from sa3d.runs.config import RunConfig, choose
from sa3d.utils.paths import RESULT, work


def run_of(task: str = "pretrain", *overrides: str, variant: str | None = None) -> RunConfig:
    return choose(load_experiment("tiny", overrides=overrides), task, variant=variant)


def mark(task: str = "pretrain", *overrides: str, variant: str | None = None) -> str:
    return fp.fingerprint(run_of(task, *overrides, variant=variant))


def model(folder: Path, sha: str) -> Path:
    folder.mkdir()
    (folder / MODEL_FILE).write_text(json.dumps({"sha256": sha}))
    (folder / WEIGHTS_FILE).write_bytes(b"")
    return folder


pytestmark = pytest.mark.usefixtures("tiny")


def test_short_hex_and_stable() -> None:
    assert mark() == mark()
    assert len(mark()) == 16
    assert int(mark(), 16) >= 0


SA3DF = "variants.sa3df"


@pytest.mark.parametrize(
    ("task", "override", "changes"),
    [
        ("pretrain", "pretrain.lr=0.5", True),
        ("pretrain", "seeds=[2]", True),
        ("pretrain", "model.dim=32", True),
        ("pretrain", "pretrain.data.points=32", True),
        ("pretrain", f"{SA3DF}.mask=block", True),
        ("pretrain", f"{SA3DF}.mask.end_ratio=0.7", True),
        ("pretrain", "pretrain.mask_ratio=0.7", True),
        ("pretrain", "pretrain.mask_ratio=0.61", False),  # 5 of 8 patches all the same
        ("pretrain", "pretrain.masked=5", False),
        ("pretrain", f"{SA3DF}.point_term=ground_truth_grad", True),
        ("pretrain", f"{SA3DF}.point_term=teacher_decoded_nograd", False),  # its default here
        ("pretrain", "evaluate.svm.settings.folds=3", False),
        ("pretrain", "evaluate.classify.settings.lr=0.5", False),
        ("pretrain", "variants.random-masks.lr=0.5", False),  # counts by the teacher's weights
        ("pretrain", "variants.more={scratch: true}", False),
        ("pretrain", "reference=sa3df", False),
        ("pretrain", "description=other", False),
        ("pretrain", "pretrain.data.val_fraction=0.3", False),
        ("svm", "evaluate.svm.settings.folds=3", True),
        ("svm", "evaluate.svm.data.points=32", True),
        ("svm", "evaluate.svm.seeds=[2]", True),
        ("svm", "evaluate.svm.label=x", True),
        ("svm", "pretrain.lr=0.5", False),
        ("svm", "pretrain.data.val_fraction=0.3", False),
        ("classify", "evaluate.classify.data.val_fraction=0.3", True),
        ("classify", "evaluate.classify.settings.lr=0.5", True),
        ("classify", "evaluate.classify.model.groups=16", True),
        ("classify", "evaluate.svm.settings.folds=3", False),
        ("classify", "evaluate.svm.model.groups=16", False),
    ],
)
def test_only_what_the_run_reads_counts(task: str, override: str, changes: bool) -> None:
    assert (mark(task) != mark(task, override)) is changes


@pytest.mark.parametrize("override", ["ema.ramp_epochs=7", "gc_depth=2", "switch_epoch=9"])
def test_what_only_one_variant_reads_leaves_the_others_alone(override: str) -> None:
    changed = f"{SA3DF}.{override}"
    assert mark("pretrain", changed) != mark()
    plain = mark(variant="random-masks")
    assert mark("pretrain", changed, variant="random-masks") == plain


def test_task_variant_and_upstream_models_count(tmp_path: Path) -> None:
    one, two = model(tmp_path / "one", "1"), model(tmp_path / "two", "2")
    same = "variants.other={method: sa3df, teacher: random-masks, mask: gc, gc_depth: 1}"
    marks = [
        mark(),
        mark(variant="random-masks"),
        mark("pretrain", same, f"{SA3DF}.switch_epoch=15"),
        mark("pretrain", same, variant="other"),  # the same settings by another name
        fp.fingerprint(run_of(), teacher=one),
        fp.fingerprint(run_of(), teacher=two),
        fp.fingerprint(run_of(), start=one),
        mark("svm"),
        mark("svm", variant="scratch"),
        fp.fingerprint(run_of("svm"), start=one),
        fp.fingerprint(run_of("svm"), start=two),
    ]
    assert len(set(marks)) == len(marks)


def test_where_a_model_lies_does_not_count(tmp_path: Path) -> None:
    one, two = model(tmp_path / "one", "1"), model(tmp_path / "two", "1")
    assert fp.fingerprint(run_of(), start=one) == fp.fingerprint(run_of(), start=two)


def test_code_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = mark()
    monkeypatch.setattr(fp, "code_digest", lambda *roots: "other")
    assert mark() != before


def test_data_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = mark()
    monkeypatch.setattr(fp, "data_digest", lambda clouds: "other")
    assert mark() != before


def test_the_number_of_processes_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = mark()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert mark() == before
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert mark() != before


def test_the_folder_is_named_by_the_run_and_its_fingerprint(tmp_path: Path) -> None:
    start = model(tmp_path / "one", "1")
    located = fp.locate(run_of("svm"), start=start)
    assert located.folder == work() / f"svm-tiny-sa3df-s1-{located.fingerprint}"
    assert located.fingerprint == fp.fingerprint(run_of("svm"), start=start)
    assert (located.start, located.teacher) == (start, None)
    assert located.clouds.name == "tiny.h5"
    assert located.clouds.is_file()
    assert not located.folder.exists()


def test_missing_and_foreign_data(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"absent\.h5; params.yaml names no source that makes it .*: put a file "
    ):
        mark("pretrain", "pretrain.data.name=absent")
    (tmp_path / "broken.h5").write_bytes(b"x" * 100)
    with pytest.raises(DataError, match=r"damaged or of another kind; params.yaml names no source"):
        fp.data_digest(tmp_path / "broken.h5")
    (tmp_path / "broken.h5").rename(tmp_path / "tiny.h5")
    with pytest.raises(DataError, match=r"delete it and .* `dvc repro prepare@tiny` \(or `sa3d "):
        fp.data_digest(tmp_path / "tiny.h5")


def test_find_model(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(CheckpointError, match="no exported model in"):
        find_model(folder)
    inner = model(folder / "model", "1")
    assert find_model(folder) == find_model(inner) == inner
    assert model_digest(folder) == "1"
    (inner / MODEL_FILE).write_text("{")
    with pytest.raises(CheckpointError, match="cannot read"):
        model_digest(folder)
    for wrong in ("[]", "{}", '{"sha256": 3}'):
        (inner / MODEL_FILE).write_text(wrong)
        with pytest.raises(CheckpointError, match="is not the description of an exported model"):
            model_digest(folder)


def test_a_run_is_finished_when_its_result_stands(tmp_path: Path) -> None:
    assert fp.finished(tmp_path / "nowhere", "f") is None
    (tmp_path / fp.CONFIG).write_text('{"fingerprint": "f"}')
    assert fp.finished(tmp_path, "f") is None, "begun"
    (tmp_path / RESULT).write_text('{"fingerprint": "f", "metrics": {}}')
    assert fp.finished(tmp_path, "f") == {"fingerprint": "f", "metrics": {}}


@pytest.mark.parametrize("name", [RESULT, fp.CONFIG])
def test_a_folder_of_another_run_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"fingerprint": "f"}')
    with pytest.raises(UserError, match=r"holds run f, this is run g .*; choose another --out"):
        fp.finished(tmp_path, "g")
    for spoilt in ("{", "{}", "[]", "null"):
        (tmp_path / name).write_text(spoilt)
        with pytest.raises(UserError, match=rf"cannot read {name} .*; delete it \(.*{name}\)"):
            fp.finished(tmp_path, "g")


def test_importing_it_costs_no_torch() -> None:
    heavy = "('torch', 'h5py', 'numpy')"
    code = f"import sys, sa3d.runs.fingerprint; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


SCALES = ("model.backbone=point-m2ae", "model.groups=[24, 12, 8]", "model.group_sizes=[4, 4, 4]")
POOLING = "evaluate.classify.settings.pooling"


def test_pooling_said_or_left_to_the_backbone_is_the_same_run() -> None:
    assert mark("classify", f"{POOLING}=cls_max") == mark("classify")
    plain = mark("classify", *SCALES)
    assert mark("classify", *SCALES, f"{POOLING}=sum") == plain
    assert mark("classify", *SCALES, f"{POOLING}=concat") != plain


def test_what_only_fine_tuning_reads_does_not_repeat_pre_training() -> None:
    near = (*SCALES, "model.radii=[0.1, 0.2, 0.3]")
    for task in ("pretrain", "svm"):
        assert mark(task, *SCALES) == mark(task, *near)
    assert mark("classify", *SCALES) != mark("classify", *near)


def test_a_file_of_another_layout_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "tiny.h5", "w") as file:
        file.attrs["digest"], file.attrs["format"], file.attrs["version"] = "d", "sa3d-clouds", 1
    with pytest.raises(DataError, match=r"layout sa3d-clouds 1, this code reads .*prepare@tiny"):
        fp.data_digest(tmp_path / "tiny.h5")
