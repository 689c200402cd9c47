"""MLflow's own pages on what is recorded here, in a real browser: runs compare as they are.

``SA3D_SCREENSHOTS=FOLDER`` keeps pictures of the pages.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import h5py
import pytest

from sa3d.config.loading import load_experiment
from sa3d.runs.config import choose
from sa3d.runs.fingerprint import Located
from sa3d.runs.launch import Options, _tracking
from sa3d.tracking import lineage, mlflow_store
from sa3d.utils import paths
from sa3d.utils.layout import FORMAT, VERSION
from tests.browser.pages import browser, curves, differences, needs_chromium, open_mlflow, shot
from tests.live import free_port
from tests.tracking.serving import server, until
from tests.tracking.test_recording import PARAMS

pytestmark = [pytest.mark.slow, needs_chromium]
SETTINGS = [
    (),
    ("pretrain.mask_ratio=0.75",),
    ("pretrain.mask_ratio=0.625",),
    ("pretrain.epochs=3",),
    ("pretrain.lr=0.002",),
    ("pretrain.lr=0.002", "pretrain.epochs=3"),
]
WAIT_SECONDS = 120.0


class Group:
    """One process, as a run sees those that it has."""

    main = True


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server with six pre-trainings of different settings."""
    folder = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SA3D_ROOT", str(folder))
        for variable in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "SA3D_WORK", lineage.PARENT_TAGS):
            patch.delenv(variable, raising=False)
        patch.chdir(folder)
        patch.setattr(paths, "_given", None)
        (folder / "params.yaml").write_text(PARAMS)
        clouds = paths.processed("shapes")
        clouds.parent.mkdir(parents=True)
        with h5py.File(clouds, "w") as file:
            file.attrs["digest"] = "0123456789abcdef" * 4
            file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_store.sqlite_uri(folder / "server.db"))
        for number, overrides in enumerate(SETTINGS):
            record(number, overrides)
        port = free_port()
        with server(folder, port):
            yield f"http://127.0.0.1:{port}"


def record(number: int, overrides: tuple[str, ...]) -> None:
    """A pre-training as far as its tracker sees it."""
    run = choose(load_experiment("tiny", overrides=overrides), "pretrain", variant="mae")
    located = Located(run, f"f{number}", paths.work() / f"run-{number}")
    group: Any = Group()
    with _tracking(located.folder, located, group, Options(overrides=overrides)) as tracker:
        tracker.params(run.params())
        for step in range(1, 41):
            loss = math.exp(-step / (10 + number))
            tracker.metrics({"train/loss": loss, "train/lr": 0.001, "epoch": step / 20}, step)
        picture = located.folder / "figures" / "loss.txt"
        picture.parent.mkdir()
        picture.write_text("a picture")
        tracker.artifact(picture.parent)


@pytest.fixture(scope="module")
def page(served: str) -> Iterator[Any]:
    """A browser's page, which asked no other host when all is over."""
    with browser(1600, 1000, WAIT_SECONDS) as opened:
        yield opened.page
    assert opened.hosts == {urlsplit(served).netloc}


def ids() -> dict[str, str]:
    """The id of every run by its name."""
    opened = mlflow_store.client()
    experiment = opened.get_experiment_by_name("sa3d/pretrain")
    listed = opened.search_runs([experiment.experiment_id])
    return {run.info.run_name: run.info.run_id for run in listed}


def runs_page() -> str:
    experiment = mlflow_store.client().get_experiment_by_name("sa3d/pretrain")
    return f"experiments/{experiment.experiment_id}/runs"


def test_the_table_has_data_sets_commands_and_telling_names(page: Any, served: str) -> None:
    open_mlflow(page, served, runs_page())
    page.get_by_text("mask_ratio=0.75").first.wait_for()
    page.get_by_text("shapes/train (0123456789abcdef)").first.wait_for()
    page.get_by_text("python -m sa3d pretrain -e tiny --variant mae --seed 3").first.wait_for()
    assert page.get_by_text("Ask questions about your experiments").count() == 0
    shot(page, "table")


def test_a_run_s_page_says_what_it_is(page: Any, served: str) -> None:
    run = ids()["tiny-mae-shapes-s3 mask_ratio=0.75"]
    open_mlflow(page, served, f"{runs_page()}/{run}")
    page.get_by_text("without labels on data set").first.wait_for()
    for words in ("Other settings than in", "--set pretrain.mask_ratio=0.75"):
        page.get_by_text(words).first.wait_for()
    shot(page, "run")
    open_mlflow(page, served, f"{runs_page()}/{run}/system-metrics")
    page.get_by_text("cpu_utilization_percentage").first.wait_for()
    shot(page, "system")
    open_mlflow(page, served, f"{runs_page()}/{run}/artifacts")
    page.get_by_text("figures").first.wait_for()
    shot(page, "artifacts")


def test_six_runs_are_curves_over_each_other(page: Any, served: str) -> None:
    open_mlflow(page, served, runs_page(), compareRunsMode="CHART")
    page.get_by_text("train/loss").first.wait_for()
    until(lambda: len(curves(page, "train/loss")) == len(SETTINGS))
    drawn = curves(page, "train/loss")
    assert drawn.keys() == ids().keys()
    assert all(x == list(range(1, 41)) for x in drawn.values())
    shot(page, "six")


def test_two_runs_are_compared_by_epoch_and_differ_in_what_was_changed(
    page: Any, served: str
) -> None:
    two = 'params.`pretrain.lr` = "0.002"'
    open_mlflow(page, served, runs_page(), compareRunsMode="CHART", searchFilter=two)
    page.get_by_text("train/loss").first.wait_for()
    until(lambda: len(curves(page, "train/loss")) == 2)
    shot(page, "two")
    page.get_by_label("Configure charts").click()
    menu = page.locator("[role^=menuitem]")
    menu.filter(has_text="Metric").first.dispatch_event("click")
    shot(page, "axes")
    menu.filter(has_text="epoch").first.dispatch_event("click")  # a menu that still slides in
    until(lambda: max(max(x) for x in curves(page, "train/loss").values()) == 2.0)
    shot(page, "epochs")

    found = ids()
    names = ["tiny-mae-shapes-s3 lr=0.002", "tiny-mae-shapes-s3 epochs=3 lr=0.002"]
    runs, experiment = json.dumps([found[name] for name in names]), runs_page().split("/")[1]
    open_mlflow(page, served, "compare-runs", runs=runs, experiments=json.dumps([experiment]))
    rows = differences(page)
    assert rows["pretrain.epochs"] == ["2", "3"]
    assert "pretrain.lr" not in rows, "alike in both"
    shot(page, "difference")
