"""Several processes that want the same at once: databases, a checkout, a run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sa3d.tracking.journal import FILE as JOURNAL
from sa3d.tracking.journal import entries
from tests.faults.conftest import Whole
from tests.faults.processes import end_all, wait_for
from tests.faults.project import PRETRAIN, Project, copy_of, ended

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(1800)]
Record = Callable[..., None]
# what a flow does first, without the flow
FIRST_START = """
import sys
from pathlib import Path
from flows import server
from sa3d.tracking import mlflow_store
server._START_SECONDS = 900.0  # of a busy machine
with server.prefect_api(Path(sys.argv[1])) as api:
    api.wait()
    mlflow_store.init_store()
"""


def test_three_flows_start_where_there_are_no_databases_yet(
    project: Project, record: Record
) -> None:
    (project.root / "mlflow.db").unlink()
    (project.root / "first.py").write_text(FIRST_START)
    began = time.monotonic()
    started = [project.start("first", f"server{n}.log") for n in range(3)]
    codes = [ended(process) for process in started]
    logs = [path.read_text()[-1500:] for path in project.root.glob("server*.log")]
    assert codes == [0, 0, 0], [project.said(), *logs]
    assert len(list(project.root.rglob("prefect.db"))) == 1
    record(
        "three flows start at once where neither Prefect nor MLflow has a database yet",
        found="each waits for its turn; all three have begun",
        seconds=time.monotonic() - began,
        lost=None,
        after="nothing more to do",
        equal=None,
    )


def test_a_second_repro_in_the_same_checkout_is_refused(
    served: Project, whole: Whole, record: Record
) -> None:
    project = served
    first = project.repro()
    project.wait_for_step(1)
    began = time.monotonic()
    assert ended(project.repro()) == 255
    seconds = time.monotonic() - began
    assert "busy, it is being blocked by" in project.said()
    assert first.poll() is None, "the first one goes on"
    assert ended(first) == 0, project.said()
    assert project.outcome() == whole.outcome
    record(
        "two dvc repro at once in one checkout",
        found="DVC refuses the second and names the first",
        seconds=seconds,
        lost=0,
        after="the first finished",
        equal=True,
    )


def test_two_clones_that_share_their_run_folders_make_a_run_once(
    served: Project, whole: Whole, tmp_path: Path, record: Record
) -> None:
    project = served
    clone = copy_of(whole.root, tmp_path / "clone")
    project.env["SA3D_WORK"] = str(tmp_path / "work")
    clone.env = project.env | {"DVC_SITE_CACHE_DIR": clone.env["DVC_SITE_CACHE_DIR"]}
    try:
        first = project.repro()
        project.wait_for_step(1)
        began = time.monotonic()
        second = clone.repro()
        waits = f"{PRETRAIN}: queued: another process (pid "
        seconds = wait_for(lambda: waits in clone.said(), 600, clone.said()) and (
            time.monotonic() - began
        )
        assert [ended(first), ended(second)] == [0, 0], [project.said(), clone.said()]
    finally:
        end_all(clone.mark)
    assert f"{PRETRAIN}: finished" in project.said()
    assert f"{PRETRAIN}: reused" in clone.said()
    begun = [e for e in entries(project.run_dir / JOURNAL) if e["kind"] == "run"]
    assert len(begun) == 1, "it was trained once"
    assert project.outcome() == whole.outcome
    for each in (project, clone):
        results = json.loads((each.root / "reports" / "tiny" / "results.json").read_text())
        assert results["nodes"][PRETRAIN]["status"] in ("finished", "reused")
    record(
        "two dvc repro at once in two clones with one SA3D_WORK",
        found="the second says who makes the run, and waits",
        seconds=seconds,
        lost=0,
        after="the second reused the run of the first",
        equal=True,
    )
