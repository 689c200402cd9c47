"""What a process that makes a run loads: modules are counted, as seconds differ by machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sa3d import registry
from sa3d.tracking.tracker import LEFT_TO_FLOW

# with all that they load: they took more of a job than its training
SLOW = ("timm", "torchvision", "sklearn", "scipy", "pandas", "matplotlib", "mlflow", "prefect")
COMPUTES = f"""
import sys
from sa3d import registry
for place in sys.argv[1:]:
    registry.load_at(place)
print(*[name for name in {SLOW} if name in sys.modules])
print(len(sys.modules))
"""
RUNS = f"""
import runpy, sys
sys.argv[0] = "sa3d"
try:
    runpy.run_module("sa3d", run_name="__main__", alter_sys=True)
except SystemExit as end:
    if end.code:
        raise
print(*[name for name in {SLOW} if name in sys.modules])
"""


def said(code: str, *words: str, env: dict[str, str] | None = None) -> list[str]:
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(
        command, env=os.environ | (env or {}), capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_what_a_training_computes_with_loads_torch_and_little_else() -> None:
    tasks = [registry.task(name) for name in (registry.PRETRAIN, *registry.downstream())]
    places = [task.run for task in tasks if task.run.split(".")[2] != "svm"]
    assert len(places) == 4
    for component in (*registry.METHODS.values(), *registry.MASKS.values()):
        places.append(registry.place(component))
    for architecture in registry.BACKBONES.values():
        places += [architecture.classifier, architecture.segmenter]
    loaded, count = said(COMPUTES, *places)
    assert loaded == ""
    assert int(count) < 1700  # 1449 with torch's own 1207; timm alone brought 900 more


@pytest.mark.slow
def test_svm_loads_scikit_learn_and_no_timm() -> None:
    loaded, _ = said(COMPUTES, registry.task("svm").run)
    assert set(loaded.split()) <= {"sklearn", "scipy", "pandas"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "loads"),
    [
        (["fewshot", "--fold", "0"], {"matplotlib"}),  # pictures, once it is over
        (["classify"], {"matplotlib"}),
        (["svm"], {"matplotlib", "sklearn", "scipy", "pandas"}),
    ],
)
def test_a_job_of_a_flow_loads_what_it_needs(tiny: Path, words: list[str], loads: set[str]) -> None:
    given = ["-e", "tiny", "--variant", "scratch", "--device", "cpu", "--threads", "1", "-q"]
    *_, loaded = said(RUNS, *words, *given, env={LEFT_TO_FLOW: "1"})
    assert set(loaded.split()) <= loads
