"""The flow over fake children: what runs, what is reused, what a failure and a stop leave."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.flows.conftest import Project

ALL = [
    "pretrain-baseline",
    "pretrain-method",
    *(f"{task}-{arm}" for task in ("svm", "classify") for arm in ("method", "baseline", "scratch")),
]


def nodes(project: Project) -> dict[str, str]:
    found = json.loads((project.root / "reports" / "tiny" / "results.json").read_text())
    return {name: node["status"] for name, node in found["nodes"].items()}


@pytest.mark.slow
def test_all_steps_run_once_and_are_reused(served: Project) -> None:
    code, said = served.run()
    assert code == 0, said
    started = served.started()
    assert sorted(started) == sorted(ALL)
    assert started[:2] == ["pretrain-baseline", "pretrain-method"]
    assert set(nodes(served).values()) == {"finished"}
    folder = served.root / "reports" / "tiny"
    assert (folder / "report.md").is_file()
    results = json.loads((folder / "results.json").read_text())
    assert results["nodes"]["svm-method"]["metrics"] == {"test/acc": 0.5}
    assert results["nodes"]["register-method"]["model_version"]["name"] == "sa3d-tiny-method"
    assert results["experiment"]["pretrain"]["epochs"] == 2
    assert results["seed"] == 3
    assert results["data"] == {"name": "shapes", "digest": "d1"}
    lineage = json.loads((folder / "lineage.json").read_text())
    assert lineage["fingerprints"]["svm-method"] == results["nodes"]["svm-method"]["fingerprint"]
    assert lineage["prefect_flow_run"] in served_flow_runs(served)
    assert not list(folder.glob("*.tmp"))
    assert "report.html" in said
    assert "workflowType=machine_learning" in said

    code, said = served.run()
    assert code == 0, said
    assert served.started() == []
    assert {name for name, state in nodes(served).items() if state == "reused"} == set(ALL)

    # a setting of one task changes that task alone
    code, said = served.run("--set", "svm.folds=3", "--quiet")
    assert code == 0, said
    assert sorted(served.started()) == ["svm-baseline", "svm-method", "svm-scratch"]
    assert said == ""


def served_flow_runs(project: Project) -> list[str]:
    import urllib.request

    request = urllib.request.Request(
        f"{project.env['PREFECT_API_URL']}/flow_runs/filter",
        data=b"{}",
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return [run["id"] for run in json.load(answer)]


@pytest.mark.slow
def test_a_failed_child_fails_the_flow_and_only_it_runs_again(served: Project) -> None:
    served.tell("fail", "classify-baseline")
    code, said = served.run()
    assert code == 1, said
    assert "classify-baseline failed: exit status 1" in said
    assert "seven is not six" in said
    states = nodes(served)
    assert states.pop("classify-baseline") == "failed"
    assert set(states.values()) == {"finished"}  # the others went on
    served.started()
    served.tell("fail")
    code, said = served.run()
    assert code == 0, said
    assert served.started() == ["classify-baseline"]


def test_what_needs_a_failed_step_is_skipped_and_the_rest_runs(served: Project) -> None:
    served.tell("fail", "pretrain-method")
    code, said = served.run()
    assert code == 1, said
    states = nodes(served)
    assert states["pretrain-method"] == "failed"
    for name in ("register-method", "svm-method", "classify-method"):
        assert states[name] == "skipped"
    assert states["svm-baseline"] == states["classify-scratch"] == "finished"


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stop_lets_children_save_and_leaves_none(
    served: Project, signum: int, status: int
) -> None:
    served.tell("hang", "pretrain-method")
    flow = served.start()
    wait_for(lambda: len(served.pids()) == 2)
    time.sleep(1.0)  # the child's own handler
    flow.send_signal(signum)
    said, _ = flow.communicate(timeout=60)
    assert flow.returncode == status, said
    assert "goes on from there" in said
    saved = list((served.root / "work").glob("pretrain-method-*/last.pt"))
    assert [path.read_text() for path in saved] == ["saved"]
    assert not any(alive(pid) for pid in served.pids())
    assert nodes(served)["pretrain-method"] == "stopped"
    served.started()
    served.tell("hang")
    code, said = served.run()
    assert code == 0, said
    assert "pretrain-baseline" not in served.started()


@pytest.mark.slow
def test_a_killed_flow_leaves_no_orphan_and_its_children_save(served: Project) -> None:
    served.tell("hang", "pretrain-baseline")
    flow = served.start()
    wait_for(lambda: len(served.pids()) == 1)
    time.sleep(1.0)
    flow.kill()
    flow.communicate(timeout=60)
    [pid] = served.pids()
    wait_for(lambda: not alive(pid))
    assert list((served.root / "work").glob("pretrain-baseline-*/last.pt"))


@pytest.mark.slow
def test_a_flow_of_its_own_server_asks_for_no_name_outside(project: Project) -> None:
    """Starting a real local server also guards the pin of fastapi: newer ones kill it."""
    code, said = project.run()
    assert code == 0, said
    asked = set((project.root / "spied").read_text().split())
    assert asked <= {"127.0.0.1", "localhost", "::1", "None", "0.0.0.0", ""}
    assert (project.root / ".local" / "prefect-server.log").is_file()
    assert "Error logging to API" not in said


def test_a_dead_server_and_a_wrong_key_are_refused_in_a_line(project: Project) -> None:
    project.env["PREFECT_API_URL"] = "http://127.0.0.1:9/api"
    code, said = project.run()
    assert code == 2
    assert said.startswith("error: PREFECT_API_URL=http://127.0.0.1:9/api does not answer")
    code, said = project.run("--set", "pretrain.epoch=3")
    assert code == 2
    assert "did you mean 'epochs'?" in said


def test_missing_data_is_refused(served: Project) -> None:
    (served.root / "data" / "processed" / "shapes.h5").unlink()
    code, said = served.run()
    assert code == 2, said
    assert "shapes.h5" in said
    assert "Traceback" not in said


def wait_for(true: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[1][:3]
