"""The flows as a worker finds them: loaded from their file, and run by a real worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.deployed import FLOWS
from tests.flows.conftest import Project
from tests.flows.test_flow import asked

ROOT = Path(__file__).parents[2]
# in a process of its own, as a worker does it
LOADED = """
import json, sys
from prefect.flows import load_flow_from_entrypoint

flow = load_flow_from_entrypoint(sys.argv[1], use_placeholder_flow=False)
form = flow.validate_parameters(json.loads(sys.argv[2]))["request"]
print(json.dumps([list(flow.parameters.properties), flow.parameters.required, form.title]))
"""


@pytest.mark.parametrize("entrypoint", ["flows.deployed.{}", f"{ROOT}/flows/deployed.py:{{}}"])
def test_flows_are_loaded_as_modules_and_as_scripts(entrypoint: str, tmp_path: Path) -> None:
    """As a script a module has another name, by which no text of an annotation is found."""
    given = {"request": {"experiment": "demo", "mask_ratio": 0.7, "seeds": [0, 1]}}
    done = subprocess.run(
        [sys.executable, "-c", LOADED, entrypoint.format("experiment"), json.dumps(given)],
        cwd=ROOT,
        env=os.environ | {"PREFECT_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [
        ["request"],
        ["request"],
        "demo: mask_ratio=0.7, seeds=0+1",
    ]


def test_the_names_of_flows_are_those_of_their_functions() -> None:
    assert {name: flow.fn.__name__ for name, flow in FLOWS.items()} == {n: n for n in FLOWS}


# the deployed flows, whose children are fake: a worker starts its flows by this file
FAKED = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import tests.flows.driver
from flows.deployed import *
"""


@contextmanager
def worker(project: Project) -> Iterator[None]:
    """A worker of the pool orchestrator, which has the deployments of prefect.yaml."""
    tree = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    tree["deployments"] = [each for each in tree["deployments"] if each["name"] != "gpu"]
    for each in tree["deployments"]:
        each["entrypoint"] = f"faked.py:{each['name']}"
        name = each["parameters"]["request"]
        name |= {key: "tiny" for key in ("experiment",) if key in name}
        name |= {"model": "models:/sa3d-tiny-sa3df@candidate"} if each["name"] == "evaluate" else {}
        name |= {"model": "sa3d-tiny-sa3df"} if each["name"] == "promote" else {}
    (project.root / "faked.py").write_text(FAKED)
    (project.root / "prefect.yaml").write_text(yaml.safe_dump(tree))

    def prefect(*words: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *words],
            cwd=project.root,
            env=project.env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    prefect("work-pool", "create", "orchestrator", "--type", "process", "--overwrite")
    prefect("deploy", "--all")
    with (project.root / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "worker", "start", "--pool", "orchestrator"],
            cwd=project.root,
            env=project.env | {"PREFECT_WORKER_QUERY_SECONDS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(300)  # a busy machine


def submitted(project: Project, name: str, **request: Any) -> dict[str, Any]:
    """The end of a run that was started from the page of a deployment."""
    deployment = asked(project, f"deployments/name/{name}/{name}")["id"]
    # asked twice, it is one run
    body = {"parameters": {"request": request}, "idempotency_key": str(uuid.uuid4())}
    run = asked(project, f"deployments/{deployment}/create_flow_run", body)
    end = time.monotonic() + 480  # a busy machine
    while True:
        found: dict[str, Any] = asked(project, f"flow_runs/{run['id']}")
        if found["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
            return found
        assert time.monotonic() < end, (project.root / "worker.log").read_text()
        time.sleep(0.5)


def logged(project: Project, run: str) -> str:
    query = {"logs": {"flow_run_id": {"any_": [run]}}}
    return "\n".join(each["message"] for each in asked(project, "logs/filter", query))


def artifacts(project: Project, run: str) -> dict[str, Any]:
    query = {"artifacts": {"flow_run_id": {"any_": [run]}}}
    found = asked(project, "artifacts/filter", query)
    return {each["key"]: each["data"] for each in found}


@pytest.mark.slow
@pytest.mark.stack
@pytest.mark.timeout(1500)
def test_forms_run_on_a_worker_to_their_reports(served: Project) -> None:
    with worker(served):
        run = submitted(served, "experiment", experiment="tiny", mask_ratio=0.75, seeds=[4])
        said = (served.root / "worker.log").read_text()
        assert run["state"]["type"] == "COMPLETED", said
        assert run["name"] == "tiny: mask_ratio=0.75, seeds=4"
        out = served.root / "reports" / f"tiny-{run['id'][:8]}"
        results = json.loads((out / "results.json").read_text())
        assert results["experiment"]["seeds"] == [4]
        assert {v.get("mask_ratio") for v in results["experiment"]["variants"].values()} == {
            *(0.75, None),
        }
        assert results["command"] == ("python -m flows.experiment tiny --mask-ratio 0.75 --seeds 4")
        shown = artifacts(served, run["id"])
        assert {"progress", "results", "report"} <= set(shown)
        assert shown["report"] == "a report\n"
        assert len(served.started()) == 8

        run = submitted(
            served, "ablation", experiment="tiny", mask_ratio=[0.4, 0.75], tasks=["svm"], seeds=[4]
        )
        assert run["state"]["type"] == "COMPLETED", (served.root / "worker.log").read_text()
        # the teacher is one for both; 0.75 is another pre-training than above: its teacher was
        assert sorted(served.started()) == [
            "pretrain-shapes-random-masks-s4",
            *["pretrain-shapes-sa3df-s4"] * 2,
            *["svm-shapes-sa3df-s4"] * 2,
        ]
        table = json.loads(artifacts(served, run["id"])["comparison"])
        assert [row["mask_ratio"] for row in table] == [0.4, 0.75]

        # what no schema can refuse: one line, no traceback
        run = submitted(served, "experiment", experiment="tiny", settings={"pretrain.lrr": 1})
        assert (run["state"]["type"], run["state"]["name"]) == ("FAILED", "Refused")
        why = "--set: unknown key experiments.tiny.pretrain.lrr (did you mean 'lr'?)"
        assert run["state"]["message"] == why
        log = logged(served, run["id"])
        assert "Traceback" not in log
        assert "NoneType" not in log
        assert "Traceback" not in (served.root / "worker.log").read_text()
