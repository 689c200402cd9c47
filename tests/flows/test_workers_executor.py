"""The workers' executor against a Prefect that is played: what each state of a run means."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from flows.executors import workers
from flows.executors.base import Event, Job
from flows.executors.remote_runs import RunState, ServerAwayError
from flows.executors.workers import WorkersExecutor
from sa3d.errors import UserError


class Played:
    """A server whose runs are moved by the test."""

    def __init__(self) -> None:
        self.made: list[tuple[str, int, UUID]] = []
        self.now: dict[UUID, RunState] = {}
        self.cancelled: list[UUID] = []
        self.given_up: list[UUID] = []
        self.workers = True
        self.away = False
        self.refuses = False

    def create(self, job: Job, attempt: int) -> UUID:
        self._answer()
        if self.refuses:
            raise UserError("no deployment job/gpu")
        run = uuid4()
        self.made.append((job.name, attempt, run))
        self.now[run] = RunState("scheduled")
        return run

    def states(self, runs: Collection[UUID]) -> dict[UUID, RunState]:
        self._answer()
        return {run: self.now[run] for run in runs}

    def cancel(self, run: UUID) -> None:
        self._answer()
        self.cancelled.append(run)

    def give_up(self, run: UUID, why: str) -> None:
        self.given_up.append(run)
        self.now[run] = RunState("crashed", why)

    def polled(self) -> bool:
        return self.workers

    def move(self, stage: RunState) -> None:
        """The newest run goes to this state."""
        self.now[self.made[-1][2]] = stage

    def _answer(self) -> None:
        if self.away:
            raise ServerAwayError("ConnectError")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(workers, "_POOL_SECONDS", 0.0)


@pytest.fixture
def server() -> Played:
    return Played()


@pytest.fixture
def executor(server: Played) -> WorkersExecutor:
    return WorkersExecutor(server)


def job(folder: Path, name: str = "svm") -> Job:
    return Job(name, ["sa3d", "svm"], folder / name, "f")


def result(folder: Path, name: str = "svm") -> None:
    (folder / name).mkdir()
    (folder / name / "result.json").write_text(json.dumps({"fingerprint": "f"}))


def kinds(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.kind, event.text) for event in events]


RUNNING = RunState("running", worker="gpu-0")


def test_a_run_waits_begins_and_ends(
    tmp_path: Path, server: Played, executor: WorkersExecutor
) -> None:
    executor.submit(job(tmp_path))
    assert executor.shown("svm") is None
    assert kinds(executor.poll(0)) == [("waiting", "for a worker of pool gpu")]
    assert executor.shown("svm") == server.made[0][2]
    assert executor.poll(0) == []  # nothing new is not said again
    server.move(RunState("pending"))
    assert kinds(executor.poll(0)) == [("waiting", "a worker starts it")]
    server.move(RUNNING)
    assert kinds(executor.poll(0)) == [("started", "worker gpu-0")]
    assert executor.poll(0) == []
    server.move(RunState("completed", "finished"))
    assert kinds(executor.poll(0)) == [("finished", "finished")]
    assert executor.poll(0) == []
    assert [(name, attempt) for name, attempt, _ in server.made] == [("svm", 1)]


def test_a_run_that_was_over_between_two_looks_has_begun_too(
    tmp_path: Path, server: Played, executor: WorkersExecutor
) -> None:
    executor.submit(job(tmp_path))
    executor.poll(0)
    server.move(RunState("completed", "finished"))
    assert [kind for kind, _ in kinds(executor.poll(0))] == ["started", "finished"]


def test_what_is_there_is_reused_without_a_run_or_by_the_worker(
    tmp_path: Path, server: Played, executor: WorkersExecutor
) -> None:
    result(tmp_path)
    executor.submit(job(tmp_path))
    assert [kind for kind, _ in kinds(executor.poll(0))] == ["reused"]
    assert server.made == []
    executor.submit(job(tmp_path, "other"))
    executor.poll(0)
    server.move(RunState("completed", "result of x", reused=True))
    assert [kind for kind, _ in kinds(executor.poll(0))] == ["reused"]


def test_without_workers_it_is_said_what_is_missing(
    tmp_path: Path, server: Played, executor: WorkersExecutor
) -> None:
    server.workers = False
    executor.submit(job(tmp_path))
    assert kinds(executor.poll(0)) == [("waiting", "no worker is polling pool gpu; start one")]
    server.workers = True
    assert kinds(executor.poll(0)) == [("waiting", "for a worker of pool gpu")]


def test_a_failure_tells_what_the_worker_told(
    tmp_path: Path, server: Played, executor: WorkersExecutor
) -> None:
    executor.submit(job(tmp_path))
    executor.poll(0)
    server.move(RunState("failed", "ValueError: seven is not six (exit status 1)"))
    assert kinds(executor.poll(0)) == [("failed", "ValueError: seven is not six (exit status 1)")]


def test_a_crashed_run_is_made_once_more_and_then_fails(
    tmp_path: Path, server: Played, executor: WorkersExecutor
) -> None:
    executor.submit(job(tmp_path))
    executor.poll(0)
    server.move(RUNNING)
    executor.poll(0)
    server.move(RunState("crashed", "exit status -9"))
    assert kinds(executor.poll(0)) == [
        ("waiting", "its process died (exit status -9); it is made once more")
    ]
    executor.poll(0)
    assert [attempt for _, attempt, _ in server.made] == [1, 2]
    server.move(RUNNING)
    assert kinds(executor.poll(0)) == [("started", "worker gpu-0")]
    server.move(RunState("crashed", "exit status -9"))
    [(kind, text)] = kinds(executor.poll(0))
    assert kind == "failed"
    assert text.startswith("its process died 2 times (exit status -9; log: ")


def test_a_run_that_crashed_after_its_result_was_written_is_reused(
    tmp_path: Path, server: Played, executor: WorkersExecutor
) -> None:
    executor.submit(job(tmp_path))
    executor.poll(0)
    result(tmp_path)
    server.move(RunState("crashed", "exit status -9"))
    executor.poll(0)
    assert [kind for kind, _ in kinds(executor.poll(0))] == ["reused"]
    assert len(server.made) == 1


def test_a_run_that_a_worker_took_and_never_began_is_lost(
    tmp_path: Path, server: Played, executor: WorkersExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor.submit(job(tmp_path))
    executor.poll(0)
    server.move(RunState("pending"))
    executor.poll(0)
    monkeypatch.setattr(workers, "_BEGIN_SECONDS", 0.0)
    executor.poll(0)
    assert server.given_up == [server.made[0][2]]
    assert "it is made once more" in executor.poll(0)[0].text


def test_a_server_that_is_away_is_waited_for_and_nothing_is_lost(
    tmp_path: Path, server: Played, executor: WorkersExecutor
) -> None:
    executor.submit(job(tmp_path, "runs"))
    executor.poll(0)
    server.move(RUNNING)
    executor.poll(0)
    server.away = True
    executor.submit(job(tmp_path, "later"))
    assert [(event.name, event.kind) for event in executor.poll(0)] == [("later", "waiting")]
    assert executor.poll(0) == []
    server.away = False
    executor.poll(0)
    assert [name for name, _, _ in server.made] == ["runs", "later"]
    server.now[server.made[0][2]] = RunState("completed")
    assert [(event.name, event.kind) for event in executor.poll(0)] == [("runs", "finished")]


def test_a_missing_deployment_fails_the_job(
    tmp_path: Path, server: Played, executor: WorkersExecutor
) -> None:
    server.refuses = True
    executor.submit(job(tmp_path))
    assert kinds(executor.poll(0)) == [("failed", "no deployment job/gpu")]


def test_a_stop_cancels_what_was_made_and_makes_no_more(
    tmp_path: Path, server: Played, executor: WorkersExecutor
) -> None:
    executor.submit(job(tmp_path, "runs"))
    executor.poll(0)
    server.move(RUNNING)
    executor.poll(0)
    executor.submit(job(tmp_path, "later"))
    executor.stop()
    assert kinds(executor.poll(0)) == [("stopped", "not started: the flow was stopped")]
    executor.poll(0)
    assert server.cancelled == [server.made[0][2]]  # once
    server.move(RunState("cancelling"))
    assert executor.poll(0) == []
    server.move(RunState("cancelled", "stopped (exit status 143)"))
    [(kind, text)] = kinds(executor.poll(0))
    assert kind == "stopped"
    assert "exit status 143" in text


def test_a_second_stop_waits_for_no_worker(
    tmp_path: Path, server: Played, executor: WorkersExecutor
) -> None:
    executor.submit(job(tmp_path))
    executor.poll(0)
    executor.stop()
    executor.stop()
    assert kinds(executor.poll(0)) == [("stopped", "its worker was not waited for")]


def test_closing_does_not_wait_for_ever_for_a_server_that_is_away(
    tmp_path: Path, server: Played, executor: WorkersExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_CLOSE_SECONDS", 0.1)
    executor.submit(job(tmp_path))
    executor.poll(0)
    server.away = True
    executor.close()


def test_a_run_that_was_deleted_has_failed(
    tmp_path: Path, server: Played, executor: WorkersExecutor
) -> None:
    executor.submit(job(tmp_path))
    executor.poll(0)
    server.move(RunState("deleted"))
    assert kinds(executor.poll(0)) == [("failed", "its run was deleted in Prefect")]
