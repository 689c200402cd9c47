"""What a run tells of itself: data sets, source, name, load of the machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from sa3d.config.loading import load_experiment
from sa3d.runs import naming
from sa3d.runs.config import RunConfig, choose
from sa3d.runs.fingerprint import Located
from sa3d.tracking import lineage, mlflow_store, mlflow_sync
from sa3d.tracking.data_sets import USES, DataUse
from sa3d.tracking.journal import FILE, entries, read_journal
from sa3d.tracking.system_metrics import SECTION, SystemMetrics
from sa3d.tracking.tracker import open_tracker
from sa3d.utils import paths

PARAMS = """
datasets:
  shapes: {source: shapes}
experiments:
  tiny:
    seeds: [3, 4]
    model: {groups: 8, group_size: 8, dim: 24, depth: 2, heads: 2, decoder_depth: 1}
    pretrain:
      {data: {name: shapes}, mask_ratio: 0.5, epochs: 2, batch_size: 16, lr: 1.0e-3}
    variants:
      sa3df: {method: sa3df, teacher: mae, mask: gc, gc_depth: 1}
      mae: {method: mae, mask: random}
      scratch: {scratch: true}
    reference: sa3df
    evaluate: [{task: svm, settings: {folds: 2}}]
"""


@pytest.fixture
def params(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(root)
    monkeypatch.setattr(paths, "_given", None)
    monkeypatch.delenv(lineage.PARENT_TAGS, raising=False)
    path = root / "params.yaml"
    path.write_text(PARAMS)
    return path


def chosen(task: str, *overrides: str, path: Path | None = None, **which: Any) -> RunConfig:
    return choose(load_experiment("tiny", path, overrides), task, **which)


def in_store(run_dir: Path) -> Any:
    found = mlflow_sync.run_of(run_dir)
    assert found is not None
    return mlflow_store.client(found.uri).get_run(found.run_id)


def test_data_sets_source_and_description_reach_the_store(root: Path) -> None:
    clouds = root / "data" / "processed" / "shapes.h5"
    clouds.parent.mkdir(parents=True)
    clouds.write_bytes(b"abc")
    (root / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  prepare@shapes:\n    outs:\n"
        "    - {path: data/processed/shapes.h5, hash: md5, md5: m5, size: 3}\n"
    )
    uses = [DataUse("shapes", *use, "d" * 64, clouds, {"points": 64}) for use in USES]
    for _ in range(2):  # the second time as after a kill: nothing is there twice
        with open_tracker(
            root / "run",
            experiment="sa3d/svm",
            run_name="a",
            tags={},
            command="python -m sa3d svm -e demo --params work/x.yaml",
            description="words",
            data=uses,
        ):
            pass
    run = in_store(root / "run")
    inputs = {each.dataset.name: each for each in run.inputs.dataset_inputs}
    assert sorted(inputs) == ["shapes/test", "shapes/train"]
    train = inputs["shapes/train"].dataset
    assert (train.digest, train.source_type) == ("d" * 16, "dvc")
    assert json.loads(train.source) == {"path": "data/processed/shapes.h5", "md5": "m5"}
    assert json.loads(train.profile) == {"digest": "d" * 64, "points": 64}
    contexts = {name: each.tags[0].value for name, each in inputs.items()}
    assert contexts == {"shapes/train": "training", "shapes/test": "test"}
    tags = run.data.tags
    assert tags["mlflow.source.name"] == "python -m sa3d svm -e demo --params work/x.yaml"
    assert tags["mlflow.note.content"] == "words"
    assert tags["folder"] == "run"
    clouds.write_bytes(b"other content")
    assert "md5" not in uses[0].as_entry()["source"], "dvc.lock speaks of another file"


def test_an_endless_data_set_has_no_file() -> None:
    use = DataUse("procedural", *USES[0], "d" * 64, None, {"points": 64})
    assert use.as_entry() == {
        "name": "procedural/train",
        "digest": "d" * 16,
        "context": "training",
        "source_type": "generated",
        "source": {"data_set": "procedural"},
        "profile": {"digest": "d" * 64, "points": 64},
    }


def test_the_name_says_which_settings_differ_from_the_file(params: Path) -> None:
    usual = chosen("svm")
    assert naming.changed(usual) == {}
    assert naming.run_name(usual) == "tiny-sa3df-shapes-s3"
    assert "All settings are those of `params.yaml`" in naming.description(usual, {})
    other = chosen("svm", "pretrain.mask_ratio=0.75", "evaluate.svm.settings.folds=3", seed=4)
    assert naming.run_name(other) == "tiny-sa3df-shapes-s4 folds=3 mask_ratio=0.75"
    found = naming.changed(other)
    assert found == {"svm.folds": 3, "pretrain.mask_ratio": 0.75}
    assert "* `pretrain.mask_ratio` = `0.75`" in naming.description(other, found)
    config = load_experiment(
        "tiny", overrides=["seeds=[7]", "pretrain.epochs=3", "evaluate.svm.settings.folds=3"]
    )
    assert naming.changed_experiment(config) == {
        "seeds": [7],
        "pretrain.epochs": 3,
        "evaluate.svm-shapes.settings.folds": 3,
    }


def test_a_flow_s_run_differs_from_the_file_that_the_flow_was_started_on(
    params: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed = params.parent / "work" / "handed.yaml"  # all overrides have gone in
    handed.parent.mkdir()
    handed.write_text(PARAMS.replace("epochs: 2", "epochs: 9"))
    paths.give_params(handed)
    run = chosen("pretrain", path=handed)
    assert naming.run_name(run) == "tiny-sa3df-shapes-s3", "on its own file nothing differs"
    tags = {naming.PARAMS: "params.yaml"}
    monkeypatch.setenv(lineage.PARENT_TAGS, json.dumps(tags))
    assert naming.run_name(run) == "tiny-sa3df-shapes-s3 epochs=9"
    params.write_text("experiments: {}\n")
    assert naming.run_name(run) == "tiny-sa3df-shapes-s3", "nothing to differ from"


def test_many_differences_are_counted_and_like_names_are_whole() -> None:
    found = {"a.lr": 0.0010, "b.lr": [1, 2], "c.x": "y", "d.z": 1, "e.w": None}
    assert naming.name("n", found) == "n a.lr=0.001 b.lr=[1,2] x=y +2"


def test_the_command_is_what_a_person_types(params: Path) -> None:
    run = chosen("svm", variant="mae")
    folder = params.parent / "work" / "pretrain-shapes-mae-s3-0123"
    located = Located(run, "f", params.parent / "x", start=folder)
    usual = "python -m sa3d svm -e tiny --variant mae --data shapes --seed 3"
    assert naming.command(located) == usual
    assert naming.command(located, ["model.dim=24"]) == f"{usual} --set model.dim=24"
    paths.give_params(params.parent / "other.yaml")
    assert naming.command(located) == f"{usual} --params other.yaml"
    paths.give_params(None)
    elsewhere = Located(run, "f", params.parent / "x", start=params.parent / "work" / "other")
    assert naming.command(elsewhere) == f"{usual} --from work/other"
    teacher = chosen("pretrain", variant="mae")
    located = Located(teacher, "f", params.parent / "x")
    assert naming.command(located) == "python -m sa3d pretrain -e tiny --variant mae --seed 3"


def test_load_is_recorded_under_mlflow_s_names_and_stays_out_of_every_report(root: Path) -> None:
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor

    for _ in range(2):  # two sessions of one run
        with open_tracker(
            root / "run", experiment="sa3d/pretrain", run_name="a", tags={}, system=True
        ):
            pass  # shorter than the time between two samples
    samples = [each for each in entries(root / "run" / FILE) if each["kind"] == "system"]
    assert [each["step"] for each in samples] == [0, 1]
    names = {SECTION + key for each in (CPUMonitor(), DiskMonitor()) for key in told(each)}
    assert names < samples[0]["values"].keys()
    assert samples[0]["values"]["system/process_memory_megabytes"] > 10.0
    assert read_journal(root / "run") == {}
    run = in_store(root / "run")
    assert run.data.metrics.keys() == samples[0]["values"].keys()


def told(monitor: Any) -> set[str]:
    monitor.collect_metrics()
    return set(monitor.aggregate_metrics())


@pytest.mark.parametrize(
    ("visible", "seen"), [(None, ["0", "1"]), ("1", ["1"]), ("", []), ("GPU-b,0", ["GPU-b", "0"])]
)
def test_gpus_of_this_run_alone_under_mlflow_s_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, seen: list[str]
) -> None:
    """A stand-in for NVML, which MLflow's own monitor is asked through as well."""
    nvml: Any = ModuleType("pynvml")
    nvml.NVMLError = type("NVMLError", (Exception,), {})
    nvml.nvmlInit = lambda: None
    nvml.nvmlDeviceGetCount = lambda: 2
    nvml.nvmlDeviceGetHandleByIndex = nvml.nvmlDeviceGetHandleByUUID = str
    nvml.nvmlDeviceGetMemoryInfo = lambda gpu: SimpleNamespace(used=1e9, total=4e9)
    nvml.nvmlDeviceGetUtilizationRates = lambda gpu: SimpleNamespace(gpu=50 + len(gpu))
    nvml.nvmlDeviceGetPowerUsage = lambda gpu: 100_000
    nvml.nvmlDeviceGetEnforcedPowerLimit = lambda gpu: 400_000
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    samples: list[Any] = []
    SystemMetrics(samples.append, tmp_path, seconds=60.0).stop()
    gpus = {key: value for key, value in samples[0].items() if "/gpu_" in key}
    loads = [gpus[f"system/gpu_{n}_utilization_percentage"] for n in range(len(seen))]
    assert loads == [50.0 + len(name) for name in seen]
    assert len(gpus) == 5 * len(seen)
    if seen == ["0", "1"]:
        from mlflow.system_metrics.metrics import gpu_monitor

        monkeypatch.setattr(gpu_monitor, "pynvml", nvml, raising=False)
        assert gpus.keys() == {SECTION + key for key in told(gpu_monitor.GPUMonitor())}


def test_load_goes_on_where_a_gpu_cannot_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml: Any = ModuleType("pynvml")
    nvml.NVMLError = type("NVMLError", (Exception,), {})

    def no_driver() -> None:
        raise nvml.NVMLError

    nvml.nvmlInit = no_driver
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    samples: list[Any] = []
    SystemMetrics(samples.append, tmp_path, seconds=60.0).stop()
    assert len(samples) == 1
    assert not [key for key in samples[0] if "gpu" in key]
