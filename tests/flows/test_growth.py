"""What a flow does for every run does not depend on how many runs there are.

Counted are lines of the scheduler that Python executes, and files that are opened; seconds would
say as much about the machine.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from benchmarks import growth_runs
from flows import scheduler as scheduling
from flows.plan import Plan, plan
from flows.scheduler import Scheduler
from sa3d.config.loading import load_experiment
from sa3d.data.cloud_table import Cloud, CloudTable
from sa3d.data.store import TEST, TRAIN
from sa3d.data.writing import write_clouds
from sa3d.report.results import read_experiment
from sa3d.runs.config import runs_of
from sa3d.runs.fingerprint import locate
from sa3d.runs.result import save_outcomes

COUNTER = growth_runs.Counter()


def lines_of(make: Callable[[], None], file: str) -> int:
    """Executed lines of a source file."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if frame.f_code.co_filename != file:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        make()
    finally:
        sys.settrace(before)
    return count


def all_reused(steps: Plan) -> None:
    """As the runner does: whatever is ready is queued, then found done, one after the other."""
    scheduler = Scheduler(steps)
    while not scheduler.ended:
        for name in scheduler.ready():
            scheduler.queued(name)
            scheduler.reused(name)


def all_failed(steps: Plan) -> None:
    scheduler = Scheduler(steps)
    for name in steps.by_name:
        if name in scheduler.ready():
            scheduler.queued(name)
            scheduler.failed(name)


@pytest.mark.parametrize("course", [all_reused, all_failed])
def test_the_scheduler_works_as_much_for_a_run_of_many_as_for_one_of_few(
    course: Callable[[Plan], None],
) -> None:
    few, many = (
        plan(load_experiment("demo", overrides=[f"seeds={list(range(seeds))}"]))
        for seeds in (1, 10)
    )
    assert scheduling.__file__ is not None
    for_few, for_many = (
        lines_of(lambda steps=steps: course(steps), scheduling.__file__)  # type: ignore[misc]
        for steps in (few, many)
    )
    grown = len(many.nodes) / len(few.nodes)
    assert grown > 7
    assert for_many / for_few < 1.2 * grown


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Random clouds, and one run of each kind with all that the flow and the report look for."""
    for name in ("SA3D_WORK", "SA3D_PARAMS", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SA3D_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    clouds = (Cloud(random.normal(size=(128, 3)).astype(np.float32)) for _ in range(40))
    write_clouds(tmp_path / "data" / "processed" / "shapes.h5", clouds, TABLE)
    growth_runs.write_settings(tmp_path, growth_runs.VARIANTS)
    config = load_experiment(growth_runs.NAME)
    pretraining = next(run for run in runs_of(config) if run.spec.task == "pretrain")
    model = locate(pretraining).folder / "model"  # evaluations are located by its weights
    model.mkdir(parents=True)
    (model / "model.safetensors").write_bytes(b"weights")
    (model / "model.json").write_text(json.dumps({"sha256": "0" * 64}))
    for located in growth_runs.located_runs(config):
        folder = located.folder
        folder.mkdir(exist_ok=True)
        named = {"fingerprint": located.fingerprint, "spec": located.run.spec.as_json()}
        result = named | {"metrics": {"test/acc": 1.0}, "artifacts": {"outcomes": "outcomes.npz"}}
        (folder / "config.json").write_text(json.dumps(named))
        (folder / "result.json").write_text(json.dumps(result))
        (folder / "journal.jsonl").write_text("")
        save_outcomes(folder / "outcomes.npz", np.ones(4), np.arange(4), np.arange(4))
    return tmp_path


TABLE = CloudTable(
    ids=[str(number) for number in range(40)],
    labels=np.arange(40) % 2,
    split=np.repeat(np.array([TRAIN, TEST], np.uint8), 20),
    family=np.arange(40),
    class_names=("this", "that"),
    source_hash="test",
    normalisation="subsample",
)


def opened(root: Path, evaluations: int) -> dict[str, int]:
    """Files that each part of a flow opens, with so many evaluations that are done already."""
    growth_runs.write_settings(root, evaluations)
    config = load_experiment(growth_runs.NAME)
    growth_runs.fill(config)
    out = root / "reports" / str(evaluations)
    counts = {name: cost.opened for name, cost in growth_runs.flow(COUNTER, config, out).items()}
    with COUNTER.counting():
        experiment = read_experiment(out / "results.json")
    assert not experiment.problems
    assert sum(run.finished for run in experiment.runs.values()) == evaluations + 1
    return counts | {"read by the report": COUNTER.opened}


def test_every_run_more_opens_as_many_files(project: Path) -> None:
    opened(project, 10)  # what is opened once in a process, such as modules
    few, some, many = (opened(project, evaluations) for evaluations in (10, 20, 40))
    for part, count in few.items():
        for_ten = some[part] - count
        assert many[part] - some[part] == 2 * for_ten, part
        assert for_ten <= 10 * MOST[part], part


MOST = {  # files for a run
    "plan": 0,
    "check data": 0,
    "find finished runs": 5,  # result and settings, by executor and flow; the encoder's card
    "results.json": 1,
    "read by the report": 3,
}
