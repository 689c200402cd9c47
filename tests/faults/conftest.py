"""Projects to break, a server for their flows, and the record of what each fault did."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sa3d.tracking import mlflow_store
from tests.faults.processes import end_all
from tests.faults.project import Project, copy_of, ended, new_project
from tests.live import common_prefect

RECORD = "SA3D_FAULT_RECORD"  # a file that gets a line of JSON for each fault


@dataclass(frozen=True)
class Whole:
    """A project that nothing was done to yet, and what comes of it when nothing is done to it."""

    root: Path
    outcome: dict[str, Any]


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prefect server for flows that need none of their own."""
    with common_prefect(tmp_path_factory.mktemp("prefect")) as started:
        yield started


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """What every faulty project is copied from, and compared with in the end."""
    folder = tmp_path_factory.mktemp("faults")
    untouched = new_project(folder / "untouched")
    mlflow_store.init_store(mlflow_store.sqlite_uri(untouched.root / "mlflow.db"))
    project = copy_of(untouched.root, folder / "whole")
    try:
        assert ended(project.pretrain()) == 0, project.said()
    finally:
        end_all(project.mark)
    return Whole(untouched.root, project.outcome())


@pytest.fixture
def project(whole: Whole, tmp_path: Path) -> Iterator[Project]:
    """A project of the test's own, where nothing was run; a flow starts a server of its own."""
    made = copy_of(whole.root, tmp_path / "project")
    yield made
    end_all(made.mark)


@pytest.fixture
def served(project: Project, api: str) -> Project:
    """A project whose flows report to the common server, which is there already."""
    project.env["PREFECT_API_URL"] = api
    return project


@pytest.fixture
def record(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., None]:
    """Keeps what a fault did, for the table in ``docs/faults.md`` (:mod:`tests.faults.table`).

    ``fault`` says what was done, ``found`` how and after how many seconds it was noticed, ``lost``
    how many training steps were computed twice, ``after`` what the next start did, ``equal``
    whether the result is that of an undisturbed run to the last bit; None: does not apply.
    """

    def keep(
        fault: str, *, found: str, seconds: float, lost: int | None, after: str, equal: bool | None
    ) -> None:
        line = {
            "test": request.node.nodeid,
            "fault": fault,
            "found": found,
            "seconds": round(seconds, 1),
            "lost": lost,
            "after": after,
            "equal": equal,
        }
        with Path(os.environ.get(RECORD, tmp_path / "faults.jsonl")).open("a") as file:
            file.write(json.dumps(line) + "\n")

    return keep
