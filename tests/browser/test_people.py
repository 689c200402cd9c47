"""What a person does, from nothing to a champion, in a browser and on real, small runs.

The stack comes up in an empty project. The form of ``experiment`` refuses a wrong value and takes a
right one; the run's page, its artifacts and MLflow's pages are read; a model is promoted; the stack
goes down. No page asks any other server.

``SA3D_SCREENSHOTS=docs/images pytest tests/browser`` renews the pictures of the documentation.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from flows.stack import processes
from tests.browser.pages import (
    Browser,
    browser,
    curves,
    differences,
    needs_chromium,
    open_mlflow,
    shot,
)
from tests.flows.test_stack_for_real import Real, environment, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.stack,
    pytest.mark.timeout(1800),
    needs_chromium,
]
PARAMS = """
datasets:
  shapes: {source: shapes, seed: 0, shapes_per_class: 8, points: 128, test_fraction: 0.25}
experiments:
  demo:
    description: an encoder of seconds
    seeds: [0]
    model: {groups: 8, group_size: 8, dim: 16, depth: 2, heads: 2, decoder_depth: 1, embed_width: 8}
    pretrain:
      {data: {name: shapes, points: 64, val_fraction: 0.2}, mask_ratio: 0.5, epochs: 4,
       batch_size: 16, lr: 1.0e-3, warmup_epochs: 1, clip: 5.0}
    variants:
      sa3d: {method: sa3d, mask: gc, gc_depth: 1}
      scratch: {scratch: true}
    reference: sa3d
    evaluate:
      - {task: svm, settings: {folds: 2}}
gate: {tasks: {svm: {max_drop: 0.5}}}
"""
MODEL = "sa3d-demo-sa3d"
FIRST, SECOND = "demo", "demo: mask_ratio=0.75"
OLD, NEW = "demo-sa3d-shapes-s0", "demo-sa3d-shapes-s0 mask_ratio=0.75"
VARIANT = 'tags.variant = "sa3d"'
REFUSAL = "Validation failed for field 'request.mask_ratio'"
GONE = 60.0  # seconds after which a flow that was cancelled has ended, on a busy machine
WAIT_SECONDS = 240.0  # of a machine that has other work


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    """The stack of a project that has settings and raw material for one experiment alone."""
    root = tmp_path_factory.mktemp("people")
    (root / "params.yaml").write_text(PARAMS)
    (root / "tmp").mkdir()
    env = environment(root) | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    for words in (["flows.prefect_yaml"], ["sa3d", "data", "prepare", "shapes", "--quiet"]):
        subprocess.run([sys.executable, "-m", *words], cwd=root, env=env, check=True)
    made = Real(root, env)
    code, said = made.up()
    assert code == 0, said
    try:
        yield made
    finally:
        made.stack("down")


@pytest.fixture(scope="module")
def seen(real: Real) -> Iterator[Browser]:
    """The browser of this story."""
    with browser(1400, 1000, WAIT_SECONDS) as opened:
        yield opened


@pytest.fixture
def page(seen: Browser) -> Any:
    return seen.page


def prefect(real: Real) -> str:
    return f"http://127.0.0.1:{real.ports[0]}"


def mlflow(real: Real) -> str:
    return f"http://127.0.0.1:{real.ports[1]}"


def field(page: Any, name: str) -> Any:
    """A field of a form, by what stands above it."""
    named = f"contains(@class, 'schema-form-property__label') and normalize-space()='{name}'"
    around = "ancestor::div[contains(concat(' ', @class, ' '), ' p-label ')][1]"
    return page.locator(f"xpath=//span[{named}]/{around}")


def open_form(page: Any, real: Real, flow: str) -> None:
    """From Prefect's first page to the form of a flow, click by click."""
    page.goto(prefect(real))
    page.get_by_text("Deployments", exact=True).first.click()
    page.get_by_role("link", name=flow, exact=True).first.click()
    page.get_by_role("button", name="Run", exact=True).first.click()
    page.get_by_text("Custom run").first.click()
    page.get_by_role("button", name="Submit").wait_for()


def submit(page: Any) -> None:
    """Submit a form that is accepted; once more where SQLite was busy, as the page then asks."""
    for _ in range(5):
        with page.expect_response(re.compile("create_flow_run")) as answer:
            page.get_by_role("button", name="Submit").click()
        if answer.value.status != 503:
            break
        page.wait_for_timeout(2000)
    assert answer.value.status == 201, answer.value.text()


def runs(real: Real) -> dict[str, dict[str, Any]]:
    """All flow runs by name."""
    return {run["name"]: run for run in real.ask("flow_runs/filter", {})}


def test_a_form_refuses_what_cannot_be_and_says_why(real: Real, page: Any) -> None:
    open_form(page, real, "experiment")
    field(page, "Mask Ratio (Optional)").locator("input").fill("1.5")
    page.get_by_role("button", name="Submit").click()
    page.get_by_text(REFUSAL).first.wait_for()
    assert "1.5 is greater than" in page.inner_text("body")
    field(page, "Mask Ratio (Optional)").evaluate("field => field.scrollIntoView()")
    page.wait_for_timeout(1000)  # the message slides in
    shot(page, "form-refused")
    assert runs(real) == {}  # nothing was begun


def test_forms_are_filled_in_and_their_runs_complete(real: Real, page: Any) -> None:
    open_form(page, real, "experiment")
    submit(page)  # all as in params.yaml
    open_form(page, real, "experiment")
    field(page, "Mask Ratio (Optional)").locator("input").fill("0.75")
    shot(page, "form")
    submit(page)
    begun = list(runs(real).values())
    assert len(begun) == 2
    for run in begun:
        assert real.ended(run["id"]) == "Completed", real.run(run["id"])["state"]
    assert set(runs(real)) == {FIRST, SECOND}  # a run's name says what differs


def test_the_run_s_page_shows_the_plan_as_a_graph(real: Real, page: Any) -> None:
    run = runs(real)[SECOND]["id"]
    with page.expect_response(re.compile(f"/flow_runs/{run}/graph-v2")) as answer:
        page.goto(f"{prefect(real)}/runs/flow-run/{run}")
    nodes = dict(answer.value.json()["nodes"])
    edges = {
        (nodes[parent["id"]]["label"], node["label"])
        for node in nodes.values()
        for parent in node["parents"]
    }
    assert edges == {
        ("plan", "pretrain-shapes-sa3d-s0"),
        ("plan", "svm-shapes-scratch-s0"),
        ("pretrain-shapes-sa3d-s0", "register-sa3d-s0"),
        ("pretrain-shapes-sa3d-s0", "svm-shapes-sa3d-s0"),
        ("register-sa3d-s0", "report"),
        ("svm-shapes-sa3d-s0", "report"),
        ("svm-shapes-scratch-s0", "report"),
    }
    page.locator("canvas").first.wait_for()
    page.get_by_text("Completed").first.wait_for()
    page.get_by_text("report in ").first.wait_for()
    shot(page, "run")


def test_the_run_s_artifacts_are_progress_results_report_and_links(real: Real, page: Any) -> None:
    run = runs(real)[SECOND]["id"]
    page.goto(f"{prefect(real)}/runs/flow-run/{run}")
    page.get_by_text("Artifacts", exact=True).last.click()
    for key in ("progress", "results", "report", "mlflow-pretrain-shapes-sa3d-s0"):
        page.get_by_text(key, exact=True).first.wait_for()
    shot(page, "artifacts")


def pretrainings(real: Real) -> tuple[str, dict[str, str]]:
    """MLflow's experiment of pre-trainings, and the id of each run of SA3D by its name."""
    from mlflow import MlflowClient

    client = MlflowClient(mlflow(real))
    experiment = client.get_experiment_by_name("sa3d/pretrain").experiment_id
    found = client.search_runs([experiment], VARIANT)
    return experiment, {run.info.run_name: run.info.run_id for run in found}


def test_mlflow_lays_the_curves_of_both_over_each_other(real: Real, page: Any) -> None:
    experiment, ids = pretrainings(real)
    assert set(ids) == {OLD, NEW}
    where = f"experiments/{experiment}/runs"
    open_mlflow(page, mlflow(real), where)
    page.get_by_text(NEW).first.wait_for()
    page.get_by_text("shapes/train").first.wait_for()
    shot(page, "mlflow-table")
    open_mlflow(page, mlflow(real), where, compareRunsMode="CHART", searchFilter=VARIANT)
    # sections with other charts come first, and what is below the window is not drawn
    page.get_by_placeholder("Search metric charts").fill("^train/(loss|lr|point_loss)$")
    wait_until(lambda: set(curves(page, "train/loss")) == {OLD, NEW})
    old, new = curves(page, "train/loss").values()
    assert len(old) > 1
    assert old == new  # as many steps
    shot(page, "mlflow-charts")


def test_mlflow_compares_both_by_what_was_changed(real: Real, page: Any) -> None:
    experiment, ids = pretrainings(real)
    chosen = {"runs": json.dumps([ids[OLD], ids[NEW]]), "experiments": json.dumps([experiment])}
    open_mlflow(page, mlflow(real), "compare-runs", **chosen)
    rows = differences(page)
    assert rows["pretrain.mask_ratio"] == ["0.5", "0.75"]
    assert "pretrain.epochs" not in rows
    page.get_by_text("Show diff only").first.scroll_into_view_if_needed()
    shot(page, "mlflow-compare")


def test_a_model_becomes_the_champion_by_a_form(real: Real, page: Any) -> None:
    open_form(page, real, "promote")
    submit(page)
    wait_until(lambda: len(runs(real)) == 3)
    [run] = [run for run in runs(real).values() if run["name"] not in (FIRST, SECOND)]
    assert real.ended(run["id"]) == "Completed", real.run(run["id"])["state"]
    open_mlflow(page, mlflow(real), f"models/{MODEL}")
    page.get_by_text("champion").first.wait_for()
    shot(page, "model")


def test_a_run_is_cancelled_by_the_button_on_its_page(real: Real, page: Any) -> None:
    open_form(page, real, "experiment")
    field(page, "Epochs (Optional)").locator("input").fill("100000")
    submit(page)
    name = "demo: epochs=100000"
    wait_until(lambda: name in runs(real))  # the flow's name comes with its start
    wait_until(lambda: training(real))
    run = runs(real)[name]["id"]
    page.goto(f"{prefect(real)}/runs/flow-run/{run}")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Confirm").click()
    began = time.monotonic()
    assert real.ended(run) == "Cancelled"
    assert time.monotonic() - began < GONE
    assert training(real) == []
    page.get_by_text("Cancelled").first.wait_for()


def training(real: Real) -> list[psutil.Process]:
    """The processes of the stack that train."""
    found = processes.members(real.recorded().token)
    return [process for process in found if "--threads" in process.cmdline()]


def test_no_page_asked_any_other_server(real: Real, seen: Browser) -> None:
    assert seen.hosts == {f"127.0.0.1:{port}" for port in real.ports}


def test_the_stack_goes_down_and_leaves_nothing(real: Real) -> None:
    token = real.recorded().token
    code, said = real.stack("down")
    assert code == 0, said
    assert processes.members(token) == []
