"""The flow over fake children: what runs, what is reused, what a failure and a stop leave."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sa3d.config.obtain import ABSENT_FILE
from tests import live
from tests.flows.conftest import Project

TEACHER, STUDENT = "pretrain-shapes-random-masks-s3", "pretrain-shapes-sa3df-s3"
VARIANTS = ("sa3df", "random-masks", "scratch")
CHILDREN = [
    TEACHER,
    STUDENT,
    *(f"{task}-shapes-{variant}-s3" for task in ("svm", "classify") for variant in VARIANTS),
]
REGISTERED = ["register-random-masks-s3", "register-sa3df-s3"]


def results_of(project: Project) -> dict[str, Any]:
    path = project.root / "reports" / "tiny" / "results.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def nodes(project: Project) -> dict[str, str]:
    return {name: node["status"] for name, node in results_of(project)["nodes"].items()}


@pytest.mark.slow
def test_all_nodes_run_once_and_are_reused(served: Project) -> None:
    code, said = served.run()
    assert code == 0, said
    started = served.started()
    assert sorted(started) == sorted(CHILDREN)
    assert started[:2] == [TEACHER, STUDENT]
    assert nodes(served) == dict.fromkeys([*CHILDREN, *REGISTERED], "finished")
    folder = served.root / "reports" / "tiny"
    assert (folder / "report.md").is_file()
    results = results_of(served)
    assert set(results) == {
        *("format", "experiment", "nodes", "data", "lineage", "wall_seconds", "compute_seconds"),
        *("reused", "command", "prefect_flow_run"),
    }
    assert results["format"] == 2
    assert results["experiment"]["name"] == "tiny"
    assert results["experiment"]["variants"]["sa3df"]["epochs"] == 2
    assert results["data"] == {"shapes": {"digest": "d1"}}
    svm = results["nodes"]["svm-shapes-sa3df-s3"]
    assert (svm["kind"], svm["metrics"], svm["seconds"]) == ("evaluate", {"test/acc": 0.5}, 0.1)
    assert svm["spec"]["start"]["variant"] == "sa3df"
    assert svm["run_dir"] == f"work/svm-shapes-sa3df-s3-{svm['fingerprint']}"
    registered = results["nodes"]["register-sa3df-s3"]
    assert registered["model_version"]["name"] == "sa3d-tiny-sa3df"
    assert registered["spec"] == results["nodes"][STUDENT]["spec"]
    lineage = json.loads((folder / "lineage.json").read_text())
    assert lineage == results["lineage"]
    assert lineage["data"] == {"shapes": {"digest": "d1", "md5": None}}
    assert lineage["fingerprints"]["svm-shapes-sa3df-s3"] == svm["fingerprint"]
    assert lineage["prefect_flow_run"] in {run["id"] for run in flow_runs(served)}
    assert not list(folder.glob("*.tmp"))
    assert "report.html" in said
    assert "workflowType=machine_learning" in said
    summary = summary_metrics(served)
    assert summary == {f"test/{name}": 0.5 for name in CHILDREN if name not in (TEACHER, STUDENT)}

    code, said = served.run()
    assert code == 0, said
    assert served.started() == []
    assert {name for name, state in nodes(served).items() if state == "reused"} == set(CHILDREN)
    assert sorted(results_of(served)["reused"]) == sorted(CHILDREN)

    # a setting of one task changes that task alone
    code, said = served.run("--set", "evaluate.0.settings.folds=3", "--quiet")
    assert code == 0, said
    assert sorted(served.started()) == sorted(f"svm-shapes-{variant}-s3" for variant in VARIANTS)
    assert said == ""


def summary_metrics(project: Project) -> dict[str, float]:
    """Metrics of the newest run in MLflow's `sa3d/experiments`."""
    from sa3d.tracking import mlflow_store

    opened = mlflow_store.client(mlflow_store.sqlite_uri(project.root / "mlflow.db"))
    experiment = opened.get_experiment_by_name("sa3d/experiments")
    assert experiment is not None
    (run,) = opened.search_runs([experiment.experiment_id])
    assert run.data.tags["task"] == "experiment"
    found: dict[str, float] = run.data.metrics
    return found


def asked(project: Project, path: str, body: Any = None) -> Any:
    """An answer of the Prefect API; a POST where there is a body."""
    return live.asked(project.env["PREFECT_API_URL"], path, body)


def flow_runs(project: Project) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = asked(project, "flow_runs/filter", {"sort": "START_TIME_DESC"})
    return found


def drawn(project: Project) -> tuple[dict[str, str], set[tuple[str, str]]]:
    """State name of every task of the project's last flow run, and the edges of its graph."""
    run = results_of(project)["prefect_flow_run"]
    query = {"flow_runs": {"id": {"any_": [run]}}}
    states = {
        each["name"]: each["state_name"] for each in asked(project, "task_runs/filter", query)
    }
    graph = dict(asked(project, f"flow_runs/{run}/graph-v2")["nodes"])
    edges = {
        (graph[parent["id"]]["label"], node["label"])
        for node in graph.values()
        for parent in node["parents"]
    }
    return states, edges


EDGES = {
    ("plan", TEACHER),
    (TEACHER, STUDENT),
    (TEACHER, "register-random-masks-s3"),
    (STUDENT, "register-sa3df-s3"),
    *((TEACHER, f"{task}-shapes-random-masks-s3") for task in ("svm", "classify")),
    *((STUDENT, f"{task}-shapes-sa3df-s3") for task in ("svm", "classify")),
    *(("plan", f"{task}-shapes-scratch-s3") for task in ("svm", "classify")),
    *((name, "report") for name in CHILDREN + REGISTERED if name not in (TEACHER, STUDENT)),
}


@pytest.mark.slow
def test_prefect_draws_the_plan_also_where_nodes_are_reused_or_skipped(served: Project) -> None:
    assert served.run()[0] == 0
    states, edges = drawn(served)
    assert edges == EDGES
    assert states == dict.fromkeys([*CHILDREN, *REGISTERED, "plan", "report"], "Completed")

    # the teacher is reused, the student fails, what needs it is skipped
    served.tell("fail", STUDENT)
    code, said = served.run("--set", "variants.sa3df.weight_decay=0.5")
    assert code == 1, said
    states, edges = drawn(served)
    assert edges == EDGES
    lost = ["register-sa3df-s3", "svm-shapes-sa3df-s3", "classify-shapes-sa3df-s3"]
    assert states[TEACHER] == states["svm-shapes-scratch-s3"] == "Reused"
    assert states[STUDENT] == "Failed"
    assert [states[name] for name in lost] == ["Skipped"] * 3
    assert states["register-random-masks-s3"] == states["report"] == "Completed"


@pytest.mark.slow
def test_a_failed_child_fails_the_flow_and_only_it_runs_again(served: Project) -> None:
    served.tell("fail", "classify-shapes-random-masks-s3")
    code, said = served.run()
    assert code == 1, said
    assert (
        "classify-shapes-random-masks-s3 failed: ValueError: seven is not six (exit status 1; log: "
        in said
    )
    states = nodes(served)
    assert states.pop("classify-shapes-random-masks-s3") == "failed"
    assert set(states.values()) == {"finished"}  # the others went on
    served.started()
    served.tell("fail")
    code, said = served.run()
    assert code == 0, said
    assert served.started() == ["classify-shapes-random-masks-s3"]


@pytest.mark.slow
def test_what_needs_a_failed_node_is_skipped_and_the_rest_runs(served: Project) -> None:
    served.tell("fail", STUDENT)
    code, said = served.run()
    assert code == 1, said
    states = nodes(served)
    assert states[STUDENT] == "failed"
    for name in ("register-sa3df-s3", "svm-shapes-sa3df-s3", "classify-shapes-sa3df-s3"):
        assert states[name] == "skipped"
    assert (
        states["svm-shapes-random-masks-s3"] == states["classify-shapes-scratch-s3"] == "finished"
    )


def absence(project: Project, name: str) -> None:
    """An absent data set, as its stage leaves it."""
    path = project.root / "data" / "processed" / f"{name}.h5"
    path.write_bytes(ABSENT_FILE)
    path.with_suffix(".json").write_text('{"absent": "no raw data in data/raw/scans"}')


@pytest.mark.slow
def test_tasks_whose_data_is_absent_are_skipped_and_said_to_be(served: Project) -> None:
    absence(served, "scans")
    scans = ("--set", "evaluate.0.data.name=scans")
    code, said = served.run(*scans)
    assert code == 0, said
    skipped = [f"svm-scans-{variant}-s3" for variant in VARIANTS]
    states = nodes(served)
    assert {name for name, state in states.items() if state == "skipped"} == set(skipped)
    assert all(states[name] == "finished" for name in states if name not in skipped)
    why = (
        "data set scans is absent: no raw data in data/raw/scans; "
        "`sa3d data check scans` says how to obtain it"
    )
    assert f"skipped 3 nodes: {why}" in said.splitlines()
    results = results_of(served)
    assert {results["nodes"][name]["error"] for name in skipped} == {why}
    assert results["data"]["scans"] == {"absent": why}

    code, said = served.run(*scans, "--strict", "--quiet")
    assert code == 1
    assert said == f"skipped 3 nodes: {why}\n"


@pytest.mark.slow
def test_without_the_data_of_pre_training_nothing_begins(served: Project) -> None:
    absence(served, "shapes")
    code, said = served.run()
    assert code == 2
    assert said == (
        "sa3d: data set shapes is absent: no raw data in data/raw/scans; "
        "`sa3d data check shapes` says how to obtain it\n"
    )
    assert served.started() == []


@pytest.mark.slow
def test_a_result_that_cannot_be_read_fails_its_node_and_no_other(served: Project) -> None:
    assert served.run()[0] == 0
    (broken,) = (served.root / "work").glob("svm-shapes-scratch-s3-*/result.json")
    broken.write_text("{")
    code, said = served.run()
    assert code == 1, said
    assert "Traceback" not in said
    assert "svm-shapes-scratch-s3 failed: cannot read result.json of this run: it is cut" in said
    assert str(broken) in said
    states = nodes(served)
    assert states.pop("svm-shapes-scratch-s3") == "failed"
    assert set(states.values()) == {"reused", "finished"}


@pytest.mark.slow
def test_of_several_seeds_the_first_is_the_candidate(served: Project) -> None:
    code, said = served.run("--set", "seeds=[3,4]", "--set", "evaluate=[]")
    assert code == 0, said
    lines = (served.root / "fake" / "registered").read_text().splitlines()
    assert sorted(lines) == [
        "pretrain-shapes-random-masks-s3 True",
        "pretrain-shapes-random-masks-s4 False",
        "pretrain-shapes-sa3df-s3 True",
        "pretrain-shapes-sa3df-s4 False",
    ]


@pytest.mark.slow
def test_of_two_flows_that_want_one_run_the_second_waits_and_reuses_it(served: Project) -> None:
    served.tell("slow", TEACHER)
    first = served.start()
    wait_for(lambda: len(served.pids()) == 1)
    second = served.start("--out", str(served.root / "second"))
    assert second.stdout is not None
    wanted = f"{TEACHER}: queued: another process (pid {first.pid}) is making this run\n"
    assert wanted in iter(second.stdout.readline, "")
    served.tell("slow")
    said = [flow.communicate(timeout=120)[0] for flow in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], said
    assert f"{TEACHER}: reused" in said[1]
    assert sorted(served.started()) == sorted(CHILDREN)  # each once


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stop_lets_children_save_and_leaves_none(
    served: Project, signum: int, status: int
) -> None:
    served.tell("hang", STUDENT)
    flow = served.start()
    wait_for(lambda: len(served.pids()) == 2)
    time.sleep(1.0)  # the child's own handler
    flow.send_signal(signum)
    said, _ = flow.communicate(timeout=60)
    assert flow.returncode == status, said
    assert "goes on from there" in said
    saved = list((served.root / "work").glob(f"{STUDENT}-*/last.pt"))
    assert [path.read_text() for path in saved] == ["saved"]
    assert not any(alive(pid) for pid in served.pids())
    assert nodes(served)[STUDENT] == nodes(served)["svm-shapes-scratch-s3"] == "stopped"
    served.started()
    served.tell("hang")
    code, said = served.run()
    assert code == 0, said
    assert TEACHER not in served.started()


@pytest.mark.slow
def test_a_killed_flow_leaves_no_orphan_and_its_children_save(served: Project) -> None:
    served.tell("hang", TEACHER)
    flow = served.start()
    wait_for(lambda: len(served.pids()) == 1)
    time.sleep(1.0)
    flow.kill()
    flow.communicate(timeout=60)
    [pid] = served.pids()
    wait_for(lambda: not alive(pid))
    assert list((served.root / "work").glob(f"{TEACHER}-*/last.pt"))


@pytest.mark.slow
def test_a_flow_of_its_own_server_asks_for_no_name_outside(project: Project) -> None:
    """Starting a real local server also guards the pin of fastapi: newer ones kill it."""
    code, said = project.run()
    assert code == 0, said
    asked_for = set((project.root / "spied").read_text().split())
    assert asked_for <= {"127.0.0.1", "localhost", "::1", "None", "0.0.0.0", ""}
    assert (project.root / ".local" / "prefect" / "server.log").is_file()
    assert "Error logging to API" not in said


def test_a_dead_server_and_a_wrong_key_are_refused_in_a_line(project: Project) -> None:
    project.env["PREFECT_API_URL"] = "http://127.0.0.1:9/api"
    code, said = project.run()
    assert code == 2
    assert said.startswith("sa3d: PREFECT_API_URL=http://127.0.0.1:9/api does not answer")
    code, said = project.run("--set", "pretrain.epoch=3")
    assert code == 2
    assert "did you mean 'epochs'?" in said


@pytest.mark.slow
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
