"""The scheduler: what may start, and what the end of one node means for the others."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.plan import Node, Plan
from flows.scheduler import DONE, ENDED, Scheduler
from sa3d.config.loading import load_experiment
from sa3d.runs.config import RunConfig, runs_of


@cache
def any_run() -> RunConfig:
    return runs_of(load_experiment("demo"))[0]


def graph(needs: dict[str, Sequence[str]]) -> Plan:
    return Plan(tuple(Node(n, "evaluate", any_run(), tuple(before)) for n, before in needs.items()))


CHAIN = {"teacher": (), "student": ("teacher",), "svm": ("student",), "scratch": ()}


def test_what_a_node_needs_comes_first_and_priority_is_the_plans_order() -> None:
    scheduler = Scheduler(graph(CHAIN))
    assert scheduler.ready() == ["teacher", "scratch"]
    scheduler.queued("teacher")
    assert scheduler.ready() == ["scratch"]  # not handed over twice
    scheduler.started("teacher")
    assert scheduler.ready() == ["scratch"]
    scheduler.finished("teacher")
    assert scheduler.ready() == ["student", "scratch"]
    scheduler.queued("student")
    scheduler.reused("student")
    assert scheduler.ready() == ["svm", "scratch"]
    assert not scheduler.ended


def test_a_failure_skips_what_needs_it_directly_or_not() -> None:
    scheduler = Scheduler(graph(CHAIN))
    scheduler.queued("teacher")
    scheduler.started("teacher")
    assert scheduler.failed("teacher") == {"student": "teacher", "svm": "student"}
    assert scheduler.ready() == ["scratch"]
    assert dict(scheduler.states) == {
        "teacher": "failed",
        "student": "skipped",
        "svm": "skipped",
        "scratch": "waiting",
    }


def test_a_node_that_is_not_to_be_run_skips_what_needs_it() -> None:
    scheduler = Scheduler(graph(CHAIN))
    assert scheduler.skip("student") == {"svm": "student"}
    assert scheduler.ready() == ["teacher", "scratch"]
    scheduler.queued("teacher")
    with pytest.raises(ValueError, match="teacher cannot be skipped: it is queued"):
        scheduler.skip("teacher")


def test_a_child_that_somebody_else_stopped_does_not_leave_others_waiting_for_ever() -> None:
    scheduler = Scheduler(graph({"a": (), "b": ("a",)}))
    scheduler.queued("a")
    scheduler.started("a")
    assert scheduler.stopped("a") == {"b": "a"}
    assert scheduler.ended


def test_a_stop_starts_nothing_more_and_waits_for_what_runs() -> None:
    scheduler = Scheduler(graph(CHAIN))
    scheduler.queued("teacher")
    scheduler.started("teacher")
    assert scheduler.stop() == ["student", "svm", "scratch"]
    assert scheduler.ready() == []
    assert not scheduler.ended
    scheduler.finished("teacher")  # it was nearly done
    assert scheduler.ready() == []
    assert scheduler.ended


def test_events_that_cannot_be_are_refused() -> None:
    scheduler = Scheduler(graph(CHAIN))
    with pytest.raises(ValueError, match=r"student .* not ready"):
        scheduler.queued("student")
    with pytest.raises(ValueError, match="cannot be finished: it is waiting"):
        scheduler.finished("teacher")
    scheduler.queued("teacher")
    scheduler.reused("teacher")
    with pytest.raises(ValueError, match="cannot be failed: it is reused"):
        scheduler.failed("teacher")


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, tuple[str, ...]]:
    names = [f"n{number}" for number in range(draw(st.integers(1, 9)))]
    return {
        name: tuple(draw(st.lists(st.sampled_from(names[:place]), unique=True)) if place else ())
        for place, name in enumerate(names)
    }


def descendants(needs: dict[str, tuple[str, ...]], name: str) -> set[str]:
    """An oracle: all from which ``name`` is reached."""
    direct = {other for other, before in needs.items() if name in before}
    return direct.union(*(descendants(needs, other) for other in direct))


@given(needs=graphs(), data=st.data())
def test_every_course_of_events_respects_the_graph_and_ends(
    needs: dict[str, tuple[str, ...]], data: st.DataObject
) -> None:
    scheduler = Scheduler(graph(needs))
    failed: list[str] = []
    for _ in range(4 * len(needs)):
        if scheduler.ended:
            break
        ready = scheduler.ready()
        assert ready == [name for name in needs if name in ready]
        active = [n for n, state in scheduler.states.items() if state in ("queued", "running")]
        assert ready or active, "neither ended nor able to go on"
        name = data.draw(st.sampled_from(ready + active))
        if name in ready:
            assert all(scheduler.states[before] in DONE for before in needs[name])
            scheduler.queued(name)
        elif scheduler.states[name] == "queued":
            event = data.draw(st.sampled_from(["started", "started", "reused", "failed"]))
            failed += [name] if event == "failed" else []
            getattr(scheduler, event)(name)
        else:
            event = data.draw(st.sampled_from(["finished", "finished", "failed"]))
            failed += [name] if event == "failed" else []
            getattr(scheduler, event)(name)
    assert scheduler.ended
    lost = set().union(*(descendants(needs, name) for name in failed))
    assert {n for n, state in scheduler.states.items() if state == "skipped"} == lost
    assert {n for n, state in scheduler.states.items() if state == "failed"} == set(failed)
    assert not lost & set(failed)


@given(needs=graphs(), data=st.data())
def test_after_a_stop_only_what_was_handed_over_moves(
    needs: dict[str, tuple[str, ...]], data: st.DataObject
) -> None:
    scheduler = Scheduler(graph(needs))
    for _ in range(data.draw(st.integers(0, 2 * len(needs)))):
        ready = scheduler.ready()
        running = [n for n, state in scheduler.states.items() if state == "running"]
        if not ready + running:
            break
        name = data.draw(st.sampled_from(ready + running))
        if name in running:
            scheduler.finished(name)
        else:
            scheduler.queued(name)
            scheduler.started(name)
    running = [n for n, state in scheduler.states.items() if state == "running"]
    dropped = scheduler.stop()
    assert scheduler.ready() == []
    assert {scheduler.states[name] for name in dropped} <= {"stopped"}
    for name in running:
        assert not scheduler.ended
        assert scheduler.stopped(name) == {}
        assert scheduler.ready() == []
    assert scheduler.ended
    assert set(scheduler.states.values()) <= set(ENDED)
