"""MLflow's own pages on what is recorded here, in a real browser: runs compare as they are.

``SA3D_SCREENSHOTS=FOLDER`` keeps pictures of the pages.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import pytest

from sa3d.config.loading import load_experiment
from sa3d.runs.config import choose
from sa3d.runs.fingerprint import Located
from sa3d.runs.launch import Options, _tracking
from sa3d.tracking import lineage, mlflow_store
from sa3d.utils import paths
from sa3d.utils.layout import FORMAT, VERSION
from tests.tracking.serving import free_port, server
from tests.tracking.test_recording import PARAMS

pytest.importorskip("playwright", reason="needs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: chromium)"),
]
SETTINGS = [
    (),
    ("pretrain.mask_ratio=0.75",),
    ("pretrain.mask_ratio=0.625",),
    ("pretrain.epochs=3",),
    ("pretrain.lr=0.002",),
    ("pretrain.lr=0.002", "pretrain.epochs=3"),
]
WAIT = 120_000  # milliseconds; a busy machine renders slowly


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
    """A browser's page, MLflow's Assistant closed as a person closes it once."""
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=options)
        opened = browser.new_page(viewport={"width": 1600, "height": 1000})
        opened.set_default_timeout(WAIT)
        foreign: list[str] = []
        opened.on("request", lambda asked: foreign.append(asked.url))
        opened.add_init_script(
            "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"
        )
        yield opened
        browser.close()
    elsewhere = [url for url in foreign if not url.startswith((served, "data:", "blob:"))]
    assert not elsewhere, "a page asked another host"


def shot(page: Any, name: str) -> None:
    folder = os.environ.get("SA3D_SCREENSHOTS")
    if folder:
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def ids() -> dict[str, str]:
    opened = mlflow_store.client()
    experiment = opened.get_experiment_by_name("sa3d/pretrain")
    listed = opened.search_runs([experiment.experiment_id])
    return {run.info.run_name: run.info.run_id for run in listed} | {"": experiment.experiment_id}
