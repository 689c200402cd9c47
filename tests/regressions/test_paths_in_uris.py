"""A project in a folder of any name has its stores inside that folder, and finds them again."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from flows import launch, outcome, server
from sa3d.checkpoints.export import export_model
from sa3d.config.loading import load_experiment
from sa3d.errors import UserError
from sa3d.methods.build import build_method
from sa3d.runs.config import choose
from sa3d.tracking import lineage, mlflow_store, mlflow_sync, model_registry
from sa3d.tracking.catching_up import catch_up
from sa3d.tracking.tracker import open_tracker

REPO = Path(__file__).parents[2]
COMMON = ["feature%2Ffix", "50%25off", "why?", "a#b", "a b", "ü"]
FOLDERS = [
    *COMMON,
    "100%",
    "why?uri=true&x=%",
    "a+b;c",
    "x&y=z",
    "it's",
    "$HOME",
    "user:word@host",
    "-dash",
    "%(x)s{y}",
]
WORST = "100% ü#b?c=%2F;$d'e"
NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)


@given(NAMES.filter(lambda name: name not in (".", "..")), st.sampled_from([None, "aiosqlite"]))
def test_a_path_comes_back_from_its_uri(name: str, driver: str | None) -> None:
    path = Path("/nowhere") / name / "mlflow.db"
    uri = mlflow_store.sqlite_uri(path, driver)
    assert mlflow_store.sqlite_path(uri) == path
    assert make_url(uri).database == str(path)  # what opens it
    assert not make_url(uri).query
    if uri.startswith("sqlite:///"):  # MLflow makes the folder that stands there, not decoded
        assert Path(uri.removeprefix("sqlite:///")).parent == path.parent


@settings(deadline=None)  # the first call imports MLflow
@given(NAMES.filter(lambda name: name not in (".", "..")))
def test_mlflow_takes_back_the_place_of_artifacts(name: str) -> None:
    from mlflow.utils.file_utils import local_file_uri_to_path

    path = Path("/nowhere") / name / "mlflow.db"
    location = mlflow_store.artifact_location(mlflow_store.sqlite_uri(path))
    assert location is not None
    assert local_file_uri_to_path(location) == str(path.parent / "mlartifacts")


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("sqlite:////a/mlflow.db", "/a/mlflow.db"),
        ("sqlite:////a%20b/mlflow.db", "/a b/mlflow.db"),
        ("sqlite+pysqlite:////a%3Fb/mlflow.db?timeout=30", "/a?b/mlflow.db"),
        ("sqlite:///mlflow.db", str(Path.cwd() / "mlflow.db")),
        ("sqlite:///:memory:", None),
        ("sqlite://", None),
        ("sqlite:///file:/a/mlflow.db?uri=true", None),
        ("postgresql:///mlflow", None),
        ("http://host/a", None),
    ],
)
def test_the_file_that_a_uri_names(uri: str, path: str | None) -> None:
    assert mlflow_store.sqlite_path(uri) == (path and Path(path))


def test_plain_uris_stay_as_they_were() -> None:
    assert mlflow_store.sqlite_uri(Path("/home/me/sa3d/mlflow.db")) == (
        "sqlite:////home/me/sa3d/mlflow.db"
    )


def test_a_name_that_is_not_utf8_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"not UTF-8") as refused:
        mlflow_store.sqlite_uri(Path(os.fsdecode(b"/a\xff/mlflow.db")))
    str(refused.value).encode()  # can be printed


def project_in(parent: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's root in a folder of that name, found from the current folder."""
    root = parent / "around" / name
    root.mkdir(parents=True)
    shutil.copy(REPO / "params.yaml", root / "params.yaml")
    for variable in ("SA3D_ROOT", "DVC_ROOT", "SA3D_WORK", "MLFLOW_TRACKING_URI", "SA3D_TAGS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(root)
    lineage.git.cache_clear()
    return root


def strays(root: Path) -> list[str]:
    """What lies around the project and not in it."""
    around = root.parent
    return [
        str(path.relative_to(around))
        for path in around.rglob("*")
        if path != root and not path.is_relative_to(root)
    ]


def recorded(root: Path) -> mlflow_sync.SyncedRun:
    """A run with a metric and an artifact in the project's store."""
    run_dir = root / "work" / "run"
    with open_tracker(run_dir, experiment="sa3d/pretrain", run_name="a", tags={}) as tracker:
        tracker.metrics({"train/loss": 0.5}, 0)
        (run_dir / "figure.txt").write_text("picture")
        tracker.artifact(run_dir / "figure.txt", "figures")
    found = mlflow_sync.run_of(run_dir)
    assert found is not None
    return found


def exported(run_dir: Path) -> None:
    """A run folder with a small model of random weights."""
    small = ["groups=8", "group_size=8", "dim=24", "depth=1", "heads=2"]
    overrides = [f"model.{x}" for x in small] + ["pretrain.data.points=64"]
    run = choose(load_experiment("demo", overrides=overrides), "pretrain", variant="random-masks")
    torch.manual_seed(0)
    card = {
        "kind": "pretrain",
        "experiment": run.experiment,
        "spec": run.spec.as_json(),
        "fingerprint": "f",
        "model": run.model.model_dump(mode="json"),
        "settings": run.settings.model_dump(mode="json"),
        "data": {**run.data.model_dump(mode="json"), "digest": "d"},
        "preprocessing": {"points": run.data.points, "normalisation": "subsample"},
    }
    state = build_method(run.method, run.model).student_state()
    export_model(run_dir / "model", state, card)


@pytest.mark.slow
@pytest.mark.parametrize("name", [WORST, *FOLDERS])
def test_a_store_works_and_lies_inside_the_project(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = project_in(tmp_path, name, monkeypatch)
    mlflow_store.init_store()
    run = recorded(root)
    exported(root / "work" / "run")
    version = model_registry.register(root / "work" / "run", "demo", "random-masks")
    assert strays(root) == []
    assert (root / "mlflow.db").is_file()
    assert len(list((root / "mlartifacts").rglob("figure.txt"))) == 1

    import mlflow

    opened = mlflow_store.client()
    assert opened.get_run(run.run_id).data.metrics == {"train/loss": 0.5}
    target = root / "back"
    target.mkdir()
    got = opened.download_artifacts(run.run_id, "figures/figure.txt", str(target))
    assert Path(got).read_text() == "picture"
    model = mlflow.artifacts.download_artifacts(version["uri"], dst_path=str(target / "model"))
    assert (Path(model) / "MLmodel").is_file()
    assert opened.get_model_version(version["name"], version["version"]).run_id == run.run_id
    assert model_registry.register(root / "work" / "run", "demo", "random-masks") == version
    assert catch_up(root / "work" / "run").points == 0
    assert strays(root) == []


@pytest.mark.parametrize("name", [*FOLDERS, WORST])
def test_results_name_the_store_relative_to_the_project(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = project_in(tmp_path, name, monkeypatch)
    assert outcome._public(mlflow_store.tracking_uri()) == "sqlite:///mlflow.db"
    other = root / name / "other.db"
    said = outcome._public(mlflow_store.sqlite_uri(other))
    assert mlflow_store.sqlite_path(said) == other  # read from the project's root
    assert str(tmp_path) not in said


def test_results_name_no_credentials() -> None:
    assert outcome._public("http://me:secret@host:5000/x") == "http://host:5000/x"


@pytest.mark.slow
@pytest.mark.parametrize("name", [*COMMON, WORST])
def test_a_prefect_server_of_the_project_becomes_healthy(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = project_in(tmp_path, name, monkeypatch)
    monkeypatch.setenv("PREFECT_HOME", str(root / ".local" / "prefect"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with server.prefect_api(root / ".local" / "server.log") as api:
        api.wait()
        with urllib.request.urlopen(f"{api.url}/health", timeout=10) as answer:
            assert answer.status == 200
    assert (root / ".local" / "prefect" / "prefect.db").is_file()
    assert strays(root) == []


def test_a_database_that_is_chosen_already_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", "/a%2Fb/prefect")
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", "postgresql+asyncpg://host/db")
    assert server.home_settings() == {"PREFECT_HOME": "/a%2Fb/prefect"}


@pytest.mark.slow
def test_a_whole_flow_runs_in_such_a_folder(
    tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own Prefect server, its store, its results; the children are stand-ins."""
    root = project_in(tmp_path, WORST, monkeypatch)
    shutil.copytree(tiny_root, root, dirs_exist_ok=True)
    (root / "fake").mkdir()
    own = tmp_path / "tmp"  # locks of cores of its own: another flow may hold those of the machine
    own.mkdir()
    for variable in ("PREFECT_API_URL", "PREFECT_HOME"):
        monkeypatch.delenv(variable, raising=False)
    done = subprocess.run(
        [sys.executable, str(REPO / "tests" / "flows" / "driver.py"), "tiny"],
        env={
            **os.environ,
            "PYTHONPATH": str(REPO),
            "FAKE": str(root / "fake"),
            "TMPDIR": str(own),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((root / "reports" / "tiny" / "results.json").read_text())
    assert results["lineage"]["mlflow"]["tracking_uri"] == "sqlite:///mlflow.db"
    assert strays(root) == []


# --- the commands that are printed run as they stand ---------------------------------------


def accepted(command: str) -> list[str]:
    """The words of a command, which a shell reads without complaint."""
    subprocess.run(["sh", "-n", "-c", command], check=True, capture_output=True)
    seen = subprocess.run(
        ["sh", "-c", f"""env() {{ printf '%s\\0' "$@"; }}; env {command}"""],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")[:-1]
    assert seen == shlex.split(command)
    return seen


@pytest.mark.parametrize("name", [*FOLDERS, WORST])
def test_how_to_look_at_the_stores(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = project_in(tmp_path, name, monkeypatch)
    home = root / ".local" / "prefect"
    monkeypatch.setenv("PREFECT_HOME", str(home))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    found = {key: how.partition(", then ")[0] for key, how in launch.viewers().items()}
    *words, uri = accepted(found["MLflow"])
    assert words == ["mlflow", "ui", "--backend-store-uri"]
    assert mlflow_store.sqlite_path(uri) == root / "mlflow.db"
    *settings, a, b, c = accepted(found["Prefect"])
    assert [a, b, c] == ["prefect", "server", "start"]
    assert settings[0] == f"PREFECT_HOME={home}"
    for setting in settings[1:]:
        key, _, url = setting.partition("=")
        assert key == "PREFECT_API_DATABASE_CONNECTION_URL"
        assert make_url(url).database == str(home / "prefect.db")
    # Prefect itself pastes the folder where the database is not named
    assert len(settings) == 2 or make_url(f"sqlite:///{home}/p").database == f"{home}/p"


@pytest.mark.parametrize("name", [*FOLDERS, WORST])
def test_how_to_send_what_a_server_lacks(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root = project_in(tmp_path, name, monkeypatch)
    monkeypatch.setattr(mlflow_sync.MlflowSync, "update", lambda self: 1 / 0)
    with open_tracker(root / "run", experiment="sa3d/pretrain", run_name="a", tags={}) as tracker:
        tracker.metrics({"train/loss": 1.0}, 0)
    said = capfd.readouterr().err
    assert accepted(said[said.index("sa3d sync") :]) == ["sa3d", "sync", str(root / "run")]


def test_how_to_make_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sa3d.config.obtain import how_to_make

    monkeypatch.chdir(tmp_path)
    names = ["shapes", "my shapes", "it's", "$HOME"]
    (tmp_path / "params.yaml").write_text(json.dumps({"datasets": {key: {} for key in names}}))
    for name in names:
        first, second = how_to_make(name).split("`")[1::2]
        assert accepted(first) == ["dvc", "repro", f"prepare@{name}"]
        assert accepted(second) == ["sa3d", "data", "prepare", name]


@pytest.mark.slow
@pytest.mark.parametrize("name", [WORST, "why?", "a b"])
def test_the_command_that_is_printed_shows_the_run(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = project_in(tmp_path, name, monkeypatch)
    recorded(root)
    monkeypatch.setenv("PREFECT_HOME", "/unused")
    command = launch.viewers()["MLflow"].partition(", then ")[0]
    port = server._free_port()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = f"{shlex.quote(sys.executable)} -m {command} --workers 1 --port {port}"
    with shell(command, elsewhere, tmp_path / "log"):
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/2.0/mlflow/runs/search",
            json.dumps({"experiment_ids": ["1"]}).encode(),
            {"Content-Type": "application/json"},
        )
        [run] = json.load(until_answered(request))["runs"]
        artifacts = f"runs/{run['info']['run_id']}"
        assert run["data"]["metrics"][0]["value"] == 0.5
        listed = json.load(
            until_answered(
                urllib.request.Request(
                    f"http://127.0.0.1:{port}/api/2.0/mlflow/artifacts/list?path=figures"
                    f"&run_id={artifacts.removeprefix('runs/')}"
                )
            )
        )
        assert [file["path"] for file in listed["files"]] == ["figures/figure.txt"]
    assert strays(root) == []


@contextlib.contextmanager
def shell(command: str, folder: Path, log: Path) -> Iterator[None]:
    with log.open("ab") as sink:
        process = subprocess.Popen(
            ["sh", "-c", command], cwd=folder, stdout=sink, stderr=sink, start_new_session=True
        )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def until_answered(request: urllib.request.Request, seconds: float = 90.0) -> Any:
    end = time.monotonic() + seconds
    while True:
        try:
            return urllib.request.urlopen(request, timeout=5)
        except OSError:
            assert time.monotonic() < end, "no answer"
            time.sleep(0.3)
